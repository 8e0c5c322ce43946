"""Day 63 · One run of a sweep: day 63's GPT with dropout, other first weights or less text.

What day 63's study leaves out and the sweeps ask about. Left out: everything about rates and seeds
(sweep.py).
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from days.day63.parts import Recipe, build, make_optimizer
from days.day63.trial import nats_per_character, one_thread, texts_of
from llm.data.batches import random_windows
from llm.layers.residual import Dropout
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine


@dataclass(frozen=True)
class Wider(Recipe):
    """Day 63's recipe and three more settings."""

    dropout: float = 0.0           # of what each branch adds, and of the embedding
    start: float = 1.0             # factor on the spread of the blocks' first matrices
    scaled: bool = True            # what writes into the stream begins 1/√(2L) smaller (day 20)
    read: int = 10**9              # tokens of the training text that are read, at most
    window: int = 0                # tokens a window in training; 0: as many as T


def make(recipe, V, rng):
    """The GPT of a recipe. ValueError where a toggle does not exist."""
    model = build(recipe, V, rng)
    if recipe.dropout:
        model.dropout = Dropout(recipe.dropout)
    for block in model.blocks:
        if recipe.dropout:
            block.mix.dropout = block.think.dropout = Dropout(recipe.dropout)
        for name, parameter in block.named_parameters().items():
            if parameter.data.ndim == 2:
                grow = 1.0 if recipe.scaled or not writes(name) else math.sqrt(2 * recipe.L)
                parameter.data *= np.float32(recipe.start * grow)
    return model


def writes(name):
    """Whether this matrix of a block writes into the stream."""
    return name.endswith(("project.w", "down.w"))


def train(recipe, rate, start, order):
    """(model, texts, skipped steps, last loss) after a run; the seeds are day 63's two."""
    texts = texts_of(recipe.pairs, recipe.characters, recipe.held_out)
    model = make(recipe, texts.V, np.random.default_rng([start, 0]))
    parameters = model.named_parameters()
    batches = random_windows(texts.train[:recipe.read], recipe.B, recipe.window or recipe.T,
                             np.random.default_rng([order, 1]))
    rng = np.random.default_rng([order, 2]) if recipe.dropout else None
    seen = []
    done = fit(parameters, lambda batch: (model.loss(*batch, rng), batch[1].size), batches,
               make_optimizer(recipe, parameters), WarmupCosine(rate, recipe.warmup),
               steps=recipe.steps, clip=recipe.clip, hooks=[lambda step: seen.append(step.loss)])
    if done.interrupted:
        raise KeyboardInterrupt
    return model, texts, done.skipped, float(np.mean(seen[-20:])) if seen else math.nan


def run(recipe, rate, start, order):
    """As day 63's `run`, and "train": the mean loss of the last 20 batches."""
    began = time.process_time()
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        model, texts, skipped, last = train(recipe, rate, start, order)
        losses = {name: nats_per_character(model, *piece, recipe.T)
                  for name, piece in texts.pieces.items()}
    return {**losses, "train": last, "parameters": model.count_parameters(), "skipped": skipped,
            "seconds": round(time.process_time() - began, 2)}
