"""Day 46 · Small models to draft with: one learns from the text, one from the target itself.

    draft(reader, Recipe(kind="distilled"))     # trained now, in seconds, or taken from the cache

Both see the same windows in the same order, from the same start. The loop is day 35's.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from days.day35.trained import name_of
from days.harness import kernels, progress, say
from llm.data.batches import random_windows
from llm.data.download import cache_folder
from llm.functions.distill import distill, distill_vjp
from llm.functions.probability import log_softmax
from llm.generate.speedup import acceptance
from llm.grad.tensor import no_grad, primitive
from llm.models.gpt import GPT, GPTConfig, make_block
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError, load_snapshot, save_snapshot

distillation = primitive(distill, distill_vjp)


@dataclass(frozen=True)
class Recipe:
    """All that decides a draft's weights, besides the target and its text."""

    kind: str = "distilled"        # or "text"
    C: int = 48                    # half the target's channels
    L: int = 1                     # a third of its blocks
    H: int = 3
    B: int = 8                     # windows a batch, as long as the target's
    steps: int = 500               # 16 s of one core; a step on text takes 2/5 of that
    rate: float = 1.2e-2           # peak, decayed to 0 along a cosine
    temperature: float = 2.0       # of the distillation
    seed: int = 0
    version: int = 1

    @classmethod
    def small(cls, kind):
        """For `--fast`."""
        return cls(kind, C=16, H=1, B=4, steps=60)


def draft(reader, recipe):
    """A GPT with the reader's vocabulary and window. Raises KeyboardInterrupt, nothing kept."""
    model, rng = fresh(reader, recipe)
    path = cache_folder() / file_name(reader, recipe)
    if path.exists():
        try:
            model.load_state_dict(load_snapshot(path)[1])
            return model
        except (SnapshotError, KeyError, ValueError):
            say(f"the kept draft {path} is damaged: training it again")
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99), decay=0.01)
    windows = random_windows(reader.tokenizer.encode(reader.corpus.train), recipe.B,
                             reader.config.T, rng)
    loss = loss_of(model, reader, recipe)
    with kernels(), progress(recipe.steps, f"training a draft ({recipe.kind})") as tick:
        run = fit(model.named_parameters(), loss, windows, optimizer,
                  WarmupCosine(recipe.rate, min(50, recipe.steps // 5)), steps=recipe.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    try:
        save_snapshot(path, model, optimizer, rng, {"recipe": asdict(recipe)})
    except SnapshotError as error:
        say(f"the draft was not kept: {error}")
    return model


def loss_of(model, reader, recipe):
    """The text's next token, or the target's opinion of it."""
    def text(batch):
        return model.loss(*batch), batch[1].size

    def distilled(batch):
        with no_grad():
            teacher = reader.model(batch[0]).data
        return distillation(model(batch[0]), teacher,
                            temperature=recipe.temperature), batch[1].size

    return {"text": text, "distilled": distilled}[recipe.kind]


def fresh(reader, recipe):
    """(an untrained model, the rng that goes on with the windows)."""
    rng = np.random.default_rng(recipe.seed)
    config = GPTConfig(V=reader.config.V, T=reader.config.T, C=recipe.C, L=recipe.L, H=recipe.H,
                       rotary=True)
    return GPT(config, rng, partial(make_block, std=recipe.C ** -0.5)), rng


def file_name(reader, recipe):
    facts = json.dumps([asdict(recipe), name_of(reader.recipe, reader.corpus)], sort_keys=True)
    return f"draft-{recipe.kind}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.npz"


def agreement(reader, model, ids, windows):
    """(mean acceptance, nats a token of the draft, of the target) over `windows` whole windows.

    Every token of the text is asked for, whatever the draft would have written.
    """
    T, found = reader.config.T, []
    for first in range(0, windows * T, T):
        part = ids[first:first + T + 1]
        with no_grad():
            p, q = (log_softmax(m(part[None, :-1]).data[0]) for m in (reader.model, model))
        rows = np.arange(T), part[1:]
        found.append([acceptance(np.exp(p), np.exp(q)).mean(), -q[rows].mean(), -p[rows].mean()])
    return np.mean(found, axis=0).tolist()
