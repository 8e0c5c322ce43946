"""Day 54 · Solutions of the exercises."""

import numpy as np

from llm.tune.nf4 import levels


def thin_pair():
    """dB needs x A, N·r numbers; only dA needs x."""
    def forward(x, a, b, weight, scale):
        h = x @ a
        return x @ weight + scale * (h @ b), (h, a, b, weight, scale)

    def backward(dout, h, a, b, weight, scale):
        dx = dout @ weight.T + scale * (dout @ b.T) @ a.T
        return dx, None, scale * (h.T @ dout), None, None

    return forward, backward


def better_levels(rng):
    """Lloyd's rule: each level moves to the mean of the numbers that are nearest to it.

    The outer two and 0 stay: every block has a number at −1 or 1, and 0 must stay 0.
    """
    blocks = rng.standard_normal((4000, 64))
    numbers = (blocks / np.abs(blocks).max(axis=1, keepdims=True)).reshape(-1)
    found = levels().astype(float)
    fixed = np.isin(found, (-1, 0, 1))
    for _ in range(30):
        at = np.searchsorted((found[1:] + found[:-1]) / 2, numbers)
        means = np.bincount(at, numbers, 16) / np.maximum(np.bincount(at, minlength=16), 1)
        found = np.where(fixed, found, means)
    return found
