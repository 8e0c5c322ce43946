"""Day 49 · Small Llamas on Shakespeare: one for each K, one pooled, and the two decoders."""

import numpy as np

from days.day35 import job
from days.day49.pooling import WAYS, sizes
from experiments.grouped import H, Plan, make_model, train
from experiments.modern_parts import Texts, nats
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine


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
