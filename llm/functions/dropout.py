"""Day 32 · Dropout: in training, each number is dropped with a probability, the rest scaled up.

The draw is an argument, so that the pair itself is a plain function. Left out: dropping whole
channels or whole layers.
"""

import numpy as np


def draw_kept(shape, rate, rng):
    """Booleans of `shape`, each False with probability `rate`.

    Raises ValueError unless 0 ≤ rate < 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate lies in [0, 1), not {rate}")
    return rng.random(shape, dtype=np.float32) >= rate


def dropout(x, kept, rate):
    """x / (1 − rate) where kept, else 0: the mean of a number over draws of `kept` is the number.

    x and kept of one shape -> out, saved. Raises ValueError where the shapes differ.
    Source: Srivastava et al. (2014), section 10, in its inverted form.
    """
    if x.shape != kept.shape:
        raise ValueError(f"dropout of shape {x.shape} with kept {kept.shape}: draw one per number")
    return np.where(kept, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0)), (kept, rate)


def dropout_vjp(dout, kept, rate):
    """The same gate: what was dropped gets no gradient."""
    return np.where(kept, dout * dout.dtype.type(1 / (1 - rate)), dout.dtype.type(0)), None
