"""Day 15 · One solution of each exercise."""

import numpy as np


def concatenate_pair():
    """What was joined is cut at the same place."""
    def f(a, b):
        return np.concatenate([a, b], axis=-1), (a.shape[-1],)

    def f_vjp(dout, n):
        return dout[..., :n], dout[..., n:]

    return f, f_vjp


def accumulate_batches(loss, batches):
    """Each batch weighs as much as it has examples; backward frees its record before the next."""
    examples, mean = sum(map(len, batches)), 0.0
    for batch in batches:
        part = loss(batch) * (len(batch) / examples)
        part.backward()
        mean += float(part.data)
    return mean
