"""Day 38 · AdamW, the norm and the scaling of gradients: one pass over memory each.

The update reads p, g, m, v and writes p, m, v: 28 bytes a parameter, and NumPy's expression moves
three times as much through temporary arrays.
"""

import math

import numpy as np
from numba import njit, prange

from llm.kernels.threads import share

GRAIN = 16384                                     # numbers a task: 64 KiB of each array


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def adamw_flat(p, g, m, v, step, decay, beta1, beta2, correction, eps):
    """In place over flat arrays: step = rate / (1 − β₁ᵗ), correction = 1 / √(1 − β₂ᵗ),
    decay = 1 − rate · weight decay."""
    one = np.float32(1)
    for task in prange((p.size + GRAIN - 1) // GRAIN):
        for i in range(task * GRAIN, min((task + 1) * GRAIN, p.size)):
            m[i] = beta1 * m[i] + (one - beta1) * g[i]
            v[i] = beta2 * v[i] + (one - beta2) * g[i] * g[i]
            p[i] = p[i] * decay - step * m[i] / (np.sqrt(v[i]) * correction + eps)


def adamw_update(p, g, m, v, t, rate, beta1, beta2, eps, decay):
    """The twin of train.adam.adamw_update, float32: p, g, m, v of one shape, contiguous."""
    share(p.size)
    adamw_flat(p.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1),
               np.float32(rate / (1 - beta1**t)), np.float32(1 - rate * decay),
               np.float32(beta1), np.float32(beta2),
               np.float32(1 / math.sqrt(1 - beta2**t)), np.float32(eps))


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def squares_flat(g, partial):
    """partial[task] ← Σ g² over that task's numbers."""
    for task in prange(partial.size):
        part, total = g[task * GRAIN:(task + 1) * GRAIN], np.float32(0)
        for i in range(part.size):
            total += part[i] * part[i]
        partial[task] = total


def squared_norm(g):
    """The twin of train.clip.squared_norm, float32: the partial sums are added in float64."""
    partial = np.empty((g.size + GRAIN - 1) // GRAIN)
    share(g.size)
    squares_flat(g.reshape(-1), partial)
    return float(partial.sum())


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def scale_flat(g, factor):
    for task in prange((g.size + GRAIN - 1) // GRAIN):
        part = g[task * GRAIN:(task + 1) * GRAIN]
        for i in range(part.size):
            part[i] *= factor


def scale(g, factor):
    """The twin of train.clip.scale, float32."""
    share(g.size)
    scale_flat(g.reshape(-1), np.float32(factor))
