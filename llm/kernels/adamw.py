"""Day 38 · AdamW, the norm and the scaling of gradients: one pass over memory each.

The update reads p, g, m, v and writes p, m, v: 28 bytes a parameter. NumPy's four lines (day 18)
move 136, most of them to and from temporary arrays.
"""

import math

import numpy as np
from numba import njit, prange

from llm.kernels.threads import share

GRAIN = 16384                                     # numbers in one partial sum: 64 KiB
MOST = np.finfo(np.float32).max / np.float32(2**14)      # of v, as in train/adam.py


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def adamw_flat(p, g, m, v, step, decay, beta1, beta2, correction, eps):
    """In place over flat arrays (N,): step = rate / (1 − β₁ᵗ), correction = 1 / √(1 − β₂ᵗ),
    decay = 1 − rate · weight decay.

    `i` comes from prange and is unsigned. Computed as task · GRAIN + j it would be signed, and the
    check for an index below 0 (which counts from the end) keeps the loop from being vectorised.
    """
    one = np.float32(1)
    for i in prange(p.size):
        m[i] = beta1 * m[i] + (one - beta1) * g[i]
        v[i] = min(beta2 * v[i] + (one - beta2) * g[i] * g[i], MOST)
        p[i] = p[i] * decay - step * m[i] / (np.sqrt(v[i]) * correction + eps)


def adamw_update(p, g, m, v, t, rate, beta1, beta2, eps, decay):
    """The twin of train.adam.adamw_update, float32: p, g, m, v of one shape, contiguous."""
    if not p.shape == g.shape == m.shape == v.shape:
        return NotImplemented                                 # the reference says what is wrong
    share(p.size)
    adamw_flat(p.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1),
               np.float32(rate / (1 - beta1**t)), np.float32(1 - rate * decay),
               np.float32(beta1), np.float32(beta2),
               np.float32(1 / math.sqrt(1 - beta2**t)), np.float32(eps))


@njit(fastmath={"reassoc", "contract"}, parallel=True, error_model="numpy", cache=True)
def squares_flat(g, partial):
    """partial[task] ← Σ g² over that task's numbers.

    Two of fastmath's freedoms (another order, fused multiply–add) and not the one that assumes
    finite numbers: a NaN in a gradient must be seen. The slice starts the index at 0, for the same
    reason as above.
    """
    for task in prange(partial.size):
        part, total = g[task * GRAIN:(task + 1) * GRAIN], np.float32(0)
        for i in range(part.size):
            total += part[i] * part[i]
        partial[task] = total


def squared_norm(g):
    """The twin of train.clip.squared_norm, float32, contiguous: Σ g², partial sums in float64.

    Sums of GRAIN numbers each, whoever computes them: the same result on any number of threads.
    """
    partial = np.empty((g.size + GRAIN - 1) // GRAIN)
    share(g.size)
    squares_flat(g.reshape(-1), partial)
    return float(partial.sum())


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def scale_flat(g, factor):
    """g (N,) ← factor · g in place."""
    for i in prange(g.size):
        g[i] *= factor


def scale(g, factor):
    """The twin of train.clip.scale, float32: g of any shape, contiguous."""
    share(g.size)
    scale_flat(g.reshape(-1), np.float32(factor))
