"""Day 15 · One solution of each exercise."""

import numpy as np


def choose_pair():
    """The gradient goes the way that its number came; a mask of booleans remembers the way."""
    def f(mask, a, b):
        return np.where(mask, a, b), (mask,)

    def f_vjp(dout, mask):
        return None, np.where(mask, dout, 0), np.where(mask, 0, dout)

    return f, f_vjp


def accumulate_batches(loss, batches):
    """Each batch weighs as much as it has examples; backward frees its record before the next."""
    examples, mean = sum(map(len, batches)), 0.0
    for batch in batches:
        part = loss(batch) * (len(batch) / examples)
        part.backward()
        mean += float(part.data)
    return mean
