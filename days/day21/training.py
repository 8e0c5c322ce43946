"""Day 21 · The deep window model with and without norms: how it starts, and how it trains."""

import math
import statistics

import numpy as np

from days.day21.batches import TRAINING
from llm.grad import ops
from llm.layers.module import Module
from llm.layers.norm import BatchNorm, LayerNorm
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws, log_probabilities, train
from llm.train.adam import AdamW

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64
NORMS = {"no norm": None, "LayerNorm": LayerNorm, "BatchNorm": BatchNorm}
KINDS = {"no norm": (None, 1.0, 0.002),           # the norm, the start's gain, the best rate,
         "no norm, gain 1.5": (None, 1.5, 0.00283),     # which experiments/norms.py has found
         "LayerNorm": (LayerNorm, 1.0, 0.0015),
         "BatchNorm": (BatchNorm, 1.0, 0.00212)}
COMPARED = [("no norm", "LayerNorm"), ("no norm, gain 1.5", "LayerNorm"),
            ("LayerNorm", "BatchNorm"), ("no norm, gain 1.5", "BatchNorm")]


def flag(kind):
    """What the norms of this kind are to be told in training."""
    return TRAINING if kind == "BatchNorm" else {}


class Flagged(Module):
    """A model that is told the same options in each call."""

    def __init__(self, model, options):
        self.model, self.options = model, options

    def __call__(self, ids):
        return self.model(ids, **self.options)


def trained(kind, rate, seed, seen, vocab_size, layers, steps):
    """A model of this kind after `steps` steps of AdamW, and the loss of each step."""
    norm, gain, _ = KINDS[kind]
    model = DeepWindow(vocab_size, CONTEXT, CHANNELS, HIDDEN, layers, np.random.default_rng(seed),
                       norm, gain)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    losses = train(Flagged(model, flag(kind)),
                   draws(seen, CONTEXT, BATCH, np.random.default_rng(seed + 1)),
                   rate, steps=steps, update=lambda _, r: optimizer.step(r))
    return model, losses


def nats(model, ids):
    """Mean loss of a trained model on a text."""
    return -float(log_probabilities(model, ids).mean())


def weighed(model, contexts, targets, options):
    """|w|·|∇w| of each hidden layer: what a small relative change of its weights does."""
    ops.cross_entropy(model(contexts, **options), targets).backward()
    return [float(np.linalg.norm(layer.w.data) * np.linalg.norm(layer.w.grad))
            for layer in model.layers]


def lengthened(kind, size, layers, contexts, targets, seed):
    """|∇w| of the fourth layer, untrained, its weights × 1, 2 and 4, as shares of the first."""
    found = []
    for factor in (1, 2, 4):
        model = DeepWindow(size, CONTEXT, CHANNELS, HIDDEN, layers, np.random.default_rng(seed),
                           NORMS[kind])
        w = model.layers[3].w
        w.data *= np.float32(factor)
        ops.cross_entropy(model(contexts, **flag(kind)), targets).backward()
        found.append(float(np.linalg.norm(w.grad)))
    return [length / found[0] for length in found]


def spread(values):
    """[mean, standard deviation]; None is the latter of a single value."""
    return [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None]


def less(these, those):
    """[mean, standard error] of these − those, seed by seed; None is the latter of one seed."""
    mean, sd = spread([a - b for a, b in zip(these, those, strict=True)])
    return [mean, None if sd is None else sd / math.sqrt(len(these))]
