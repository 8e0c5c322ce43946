"""Day 34 · What can be foretold of a GPT before training, beside what is measured."""

import math

import numpy as np

from llm.functions.dense import gelu
from llm.grad.tensor import no_grad
from llm.grad.walk import saved_bytes
from llm.layers.module import Module
from llm.models.gpt import GPT, count_flops, count_parameters, count_saved, make_block

STD = 0.02          # of every table and matrix but those that write to the stream
WINDOW = 64         # tokens shown at once


def windows(ids, B, T, rng):
    """B random windows of T ids, and the same moved on by one: (B, T) int32 each (see day 35)."""
    starts = rng.integers(0, len(ids) - T, size=B)
    rows = np.asarray(ids, np.int32)[starts[:, None] + np.arange(T + 1)]
    return rows[:, :-1].copy(), rows[:, 1:].copy()


def expected_width(config, blocks, grow=1.0, alike=False):
    """Standard deviation of the stream after so many blocks; `grow` undoes the scaling.

    alike: if tokens' values are all the same, averaging does not shrink them; if they are
    unrelated, the average of t has 1/t of their variance.
    """
    var = config.C * STD**2                                      # σ², of what a matrix puts out
    think = 2 * var * gelu_power(var)                            # all L feed-forwards together
    kept = 1 if alike else sum(1 / t for t in range(1, WINDOW + 1)) / WINDOW
    mix = var**2 / 2 * kept                                      # all L attentions
    return math.sqrt(2 * STD**2 + grow**2 * (think + mix) * blocks / config.L)


def gelu_power(var):
    """E[gelu(u)²] for u ~ N(0, var), by Gauss–Hermite quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights * gelu(math.sqrt(var) * points) ** 2).sum() / weights.sum())


def expected_loss(config, repeats):
    """ln((V − 1)·exp(σ²/2) + exp(m)) − repeats·m; m = σ²/s is the logit of the token at hand."""
    var = config.C * STD**2
    m = var / expected_width(config, config.L)
    return math.log((config.V - 1) * math.exp(var / 2) + math.exp(m)) - repeats * m


def first_losses(label, ids, config, models, seed):
    """Mean loss of untrained models on 8 windows each: a row of Result.starts."""
    losses = []
    for k in range(models):
        rng = np.random.default_rng([seed, k])
        model = GPT(config, rng)
        inputs, targets = windows(ids, 8, WINDOW, rng)
        with no_grad():
            losses.append(float(model.loss(inputs, targets).data))
    repeats = float((ids[1:] == ids[:-1]).mean())
    error = float(np.std(losses, ddof=1) / math.sqrt(models)) if models > 1 else None
    return [label, config.V, config.C, config.L, model.count_parameters(), math.log(config.V),
            config.C * STD**2 / 2, expected_loss(config, repeats), float(np.mean(losses)), error,
            models, repeats]


def size(name, c):
    """Where the parameters sit: all, blocks, token table, positions, last norm; FLOPs a token."""
    parts = [c.V * c.C, c.T * c.C, 2 * c.C]
    return [name, count_parameters(c), count_parameters(c) - sum(parts), *parts, count_flops(c)]


class Probe(Module):
    """A block that writes down how wide the stream is that passes it."""

    def __init__(self, block, widths):
        self.block, self.widths = block, widths

    def __call__(self, x, rng=None):
        out = self.block(x, rng)
        self.widths.extend(float(s.data.std()) for s in ((out,) if self.widths else (x, out)))
        return out


def probe(ids, config, scaled, seed):
    """Widths by depth, the same as expected, the logit of the token at hand, the first loss."""
    rng, widths = np.random.default_rng(seed), []
    grow = 1 if scaled else math.sqrt(2 * config.L)

    def block(config, rng):
        made = make_block(config, rng)
        for w in (made.mix.inner.project.w, made.think.inner.down.w):
            w.data *= np.float32(grow)
        return Probe(made, widths)

    model = GPT(config, rng, block)
    inputs, targets = windows(ids, 4, WINDOW, rng)
    with no_grad():
        logits = model(inputs).data
        depth, loss = widths[:], float(model.loss(inputs, targets).data)
    expected = [[expected_width(config, done, grow, alike) for done in range(config.L + 1)]
                for alike in (False, True)]
    own = float(np.take_along_axis(logits, inputs[..., None], -1).mean())
    return depth, expected, own, loss


def probes(ids, config, scaled, seed, draws):
    """What `probe` returns, the measured parts as means over so many models."""
    found = [probe(ids, config, scaled, [seed, k]) for k in range(draws)]
    widths, expected, own, losses = zip(*found, strict=True)
    return (np.mean(widths, axis=0).tolist(), expected[0], float(np.mean(own)),
            float(np.mean(losses)))


def saved_for_backward(ids, config, seed):
    """Bytes kept by a forward: predicted, measured, and for how many tokens."""
    rng = np.random.default_rng(seed)
    inputs, targets = windows(ids, 8, config.T, rng)
    marks = inputs.itemsize + targets.itemsize + 1               # ids, targets, which count
    return [inputs.size * (4 * count_saved(config) + marks),
            saved_bytes(GPT(config, rng).loss(inputs, targets)), inputs.size]
