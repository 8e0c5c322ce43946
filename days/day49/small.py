"""Day 49 · Small Llamas on Shakespeare: one for each K, one pooled, and the two decoders.

experiments/grouped.py trains more of them, each at its own best rate, from several seeds.
"""

import dataclasses
import functools
import math

import numpy as np

from days.day35 import job
from days.day48.small import Texts, nats
from days.day49.pooling import WAYS, sizes
from llm.data.batches import random_windows
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.models.llama import Llama, LlamaConfig, make_block
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

H = 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal. A study keeps runs only where all of it is the same."""

    corpus: str = "shakespeare"
    characters: int = 10**9              # of the corpus, at most
    validate: int = 40_000               # characters of each half of the held-out tenth, at most
    B: int = 8                           # windows a batch
    T: int = 64                          # characters a window
    C: int = 72
    L: int = 2
    F: int = 192
    steps: int = 600
    warmup: int = 50
    first_rates: tuple = (2.7e-3, 4e-3, 6e-3)      # the grid grows from here
    short: int = 60                      # steps after pooling
    short_warmup: int = 10
    short_rates: tuple = (1.2e-3, 1.8e-3, 2.7e-3)
    factor: float = 1.5                  # between neighbours
    choose: tuple = (0, 1)               # seeds on the grid
    report: tuple = (10, 11, 12, 13, 14, 15)     # fresh seeds at the best rate

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(characters=50_000, validate=1000, T=16, C=16, L=1, F=24, steps=5, short=2,
                   first_rates=(1e-2,), short_rates=(1e-2,), choose=(0,), report=(10, 11))


def make_model(plan, V, K, more, rng):
    """A Llama of the plan's shape, its blocks begun as in day 35's recipe."""
    config = LlamaConfig(V, plan.T, plan.C, plan.L, H, K, plan.F + more, base=1e4)
    return Llama(config, rng, functools.partial(make_block, std=1 / math.sqrt(plan.C)))


def train(plan, texts, model, rate, seed, short):
    """`fit` by the plan; short: the few steps after pooling. Other windows, then."""
    parameters = model.named_parameters()
    done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
               random_windows(texts.train, plan.B, plan.T, np.random.default_rng(
                   [seed, 2 if short else 1])),
               AdamW(parameters, betas=(0.9, 0.99), decay=0.01),
               WarmupCosine(rate, plan.short_warmup if short else plan.warmup),
               steps=plan.short if short else plan.steps, clip=1.0)
    if done.interrupted:
        raise KeyboardInterrupt
    return done


def small_models(fast, seed, tick):
    """A Llama for each K, trained a little; the one with K = H pooled, and trained on."""
    plan = Plan.small() if fast else Plan(steps=300, short=30, validate=20_000)
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
    texts, trained, pooled = Texts(plan, corpus), [], []
    score = lambda model: nats(model, texts.report, plan.T)
    models = {}
    for K in (H, 2, 1):
        model = models[K] = make_model(plan, texts.V, K, 0, np.random.default_rng([seed, 0]))
        train(plan, texts, model, plan.first_rates[0], seed, False)
        trained.append([K, model.count_parameters(), score(model)])
        tick(1, f"K = {K}")
    state = models[H].state_dict()
    for K in (2, 1):
        for way in ("mean", "first", "flipped"):
            model = make_model(plan, texts.V, K, 0, np.random.default_rng([seed, 0]))
            model.load_state_dict(WAYS[way](state, H, K, np.random.default_rng([seed, 3])))
            before = score(model)
            train(plan, texts, model, plan.short_rates[0], seed, True)
            pooled.append([K, way, before, score(model)])
    tick()
    return {"corpus": corpus.name, "trained": trained, "pooled": pooled,
            "sizes": [[K, *sizes(state, H, K)] for K in (2, 1)],
            "apart": apart(models[2], texts.report[:plan.T]),
            "small_steps": [plan.steps, plan.short]}


def apart(model, ids):
    """Largest difference from the full forward's logits, over the largest logit: two decoders."""
    full = model(np.array([ids])).data[0]
    arch, weights = model.for_inference()
    engine = Engine(arch, weights)
    stepped = np.array([engine.step(int(i)).copy() for i in ids])
    return [float(np.abs(found - full).max() / np.abs(full).max())
            for found in (decode(arch, weights, ids, KVCache(arch)), stepped)]
