"""Day 19 · Gradient clipping by global norm.

The gradient of all parameters is one long vector. If its length exceeds the limit it is shortened
to the limit; its direction stays. Source: Pascanu et al. (2013), Algorithm 1. Left out: clipping
each entry or each array by itself, which changes the direction.
"""

import math

import numpy as np

from llm.grad.lowering import lowerable


@lowerable
def squared_norm(g):
    """Σ g² as a float: blocks of about 65,536 entries in g's dtype (float16 in float32).

    The blocks are added up in float64, so that long sums keep their digits.
    """
    flat = g.reshape(-1) if g.dtype != np.float16 else g.reshape(-1).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):       # the norm itself tells of these
        return sum(float(np.dot(part, part))
                   for part in np.array_split(flat, flat.size // 65536 + 1))


def hypotenuse(g):
    """√Σ g² in float64 without squares that overflow; NaN or ∞ only where g holds one."""
    g = np.abs(g.reshape(-1).astype(np.float64))
    largest = g.max(initial=0.0)
    if not 0 < largest < math.inf:
        return float(largest)
    return float(largest * np.sqrt(np.sum((g / largest) ** 2)))


@lowerable
def scale(g, factor):
    """g ← factor · g in place."""
    g *= factor


def clip_gradients(gradients, limit):
    """Shorten a list of gradient arrays, in place, to a global norm of `limit`.

    Returns the norm before clipping, as a float. A norm of NaN or infinity is returned and
    nothing is changed: the caller must skip that step. Raises ValueError unless limit > 0.
    """
    if not limit > 0:
        raise ValueError(f"the limit of a norm must be positive, not {limit}")
    norm = math.sqrt(sum(squared_norm(g) for g in gradients))
    if not math.isfinite(norm):                   # or is it only the squares that are too large?
        norm = math.hypot(*(hypotenuse(g) for g in gradients))
    if math.isfinite(norm) and norm > limit:
        for g in gradients:
            scale(g, limit / norm)
    return norm
