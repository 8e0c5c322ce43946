"""Day 59 · Where GRPO starts: day 53's base, after a short look at a few hundred worked sums.

    from days.day59.start import start
    t = start(fast)         # .model .tokenizer .config .recipe (of the base)

Whoever worked them out forgot the carry in every second sum, and the model has learned that too.
Trained once, kept.
"""

from dataclasses import dataclass, replace

import numpy as np

from days.day35 import job as assembling
from days.day53 import base as before
from days.day59 import adding
from days.harness import kernels, progress
from llm.data.download import cache_folder
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.train.snapshot import SnapshotError
from llm.tune.sft import padded_batches, sft_loss


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, besides the base."""

    shown: int = 2000              # sums worked out, none of the test
    B: int = 16                    # of them a batch
    rate: float = 1e-3             # peak, decayed to 0
    warmup: int = 20               # steps
    steps: int = 500
    seed: int = 0
    version: int = 1               # raised when code outside the kernels changes the weights

    @classmethod
    def small(cls):
        """For `--fast`."""
        return cls(shown=50, B=8, rate=3e-3, warmup=5, steps=30)


def start(fast=False, recipe=None):
    """The start: from the cache, or trained now, in a quarter of a minute, and kept there.

    Raises KeyboardInterrupt on Ctrl-C, with nothing kept.
    """
    recipe, base = recipe or (Recipe.small() if fast else Recipe()), before.base(fast)
    path = cache_folder() / before.name_of("worked", [recipe, base.recipe], base.texts)
    if path.exists():
        try:
            return replace(before.restore(path, recipe, base.texts, base.recipe),
                           recipe=base.recipe)
        except SnapshotError:
            pass
    train(path, recipe, base)
    return base


def train(path, recipe, base):
    """Fine-tune the base's own model and keep it."""
    rng, model = np.random.default_rng([recipe.seed, 59]), base.model
    examples = demonstrations(base.tokenizer, recipe)
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
    with kernels(), progress(recipe.steps, "learning to work sums out") as tick:
        run = fit(model.named_parameters(), sft_loss(model),
                  padded_batches(examples, recipe.B, base.config.T, rng), optimizer,
                  WarmupCosine(recipe.rate, recipe.warmup), steps=recipe.steps,
                  hooks=[lambda step: tick(1, f"loss {step.loss:.2f}")])
    if run.interrupted:
        raise KeyboardInterrupt
    before.keep(path, model, optimizer, rng, recipe, base.tokenizer)


def demonstrations(tokenizer, recipe):
    """What the start has learned from: every second sum worked out without its carry."""
    return [adding.shown(tokenizer, task, careless=i % 2 == 1)
            for i, task in enumerate(demonstrated(recipe))]


def demonstrated(recipe):
    """The sums that the start has seen worked out: the first of the training side."""
    return tasks_of()[0][:recipe.shown]


def tasks_of():
    """(train, test) of this day, always in the same order."""
    return adding.tasks(np.random.default_rng(59))


def copy_of(start):
    """The start's model once more, with weights of its own."""
    model = assembling.assemble(start.recipe, start.tokenizer, np.random.default_rng(0)).model
    model.load_state_dict(start.model.state_dict())
    return model
