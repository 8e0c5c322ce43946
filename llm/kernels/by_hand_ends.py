"""Day 39 · The two ends of a step by hand: embedding, loss, the gradient's norm, AdamW.

As in kernels/by_hand.py: one thread each, no lock, no memory of their own. The norm of the
gradient keeps NaN and infinity visible, since a step with either must not be taken.
"""

import numpy as np
from numba import njit

from llm.kernels.adamw import MOST
from llm.kernels.elementwise import ONE, exp32


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def embed(ids, table, positions, x):
    """x (N, C) ← table[ids], plus positions[t] where there are any."""
    N, C = x.shape
    T = len(positions)
    for i in range(N):
        for j in range(C):
            x[i, j] = table[ids[i], j]
        if T:
            for j in range(C):
                x[i, j] += positions[i % T, j]


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def embed_back(ids, dx, dtable, dpositions):
    """dtable += the rows of dx; dpositions ← sums over sequences."""
    N, C = dx.shape
    T = len(dpositions)
    dpositions[:] = 0
    for i in range(N):
        for j in range(C):
            dtable[ids[i], j] += dx[i, j]
        if T:
            for j in range(C):
                dpositions[i % T, j] += dx[i, j]


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def cross_entropy(targets, count, logits):
    """The loss, and logits ← (softmax − one-hot) / count: one exponential for both."""
    N, V = logits.shape
    loss, share = 0.0, ONE / np.float32(count)
    for i in range(N):
        if targets[i] == -100:
            for j in range(V):
                logits[i, j] = 0
            continue
        top = logits[i, 0]
        for j in range(V):
            top = logits[i, j] if logits[i, j] > top else top
        asked = logits[i, targets[i]] - top
        total = np.float32(0)
        for j in range(V):
            logits[i, j] = exp32(logits[i, j] - top)
            total += logits[i, j]
        inverse = share / total
        for j in range(V):
            logits[i, j] *= inverse
        logits[i, targets[i]] -= share
        loss += np.float64(np.log(total) - asked)
    return loss / count


@njit(fastmath={"reassoc", "contract"}, error_model="numpy", nogil=True, cache=True)
def add_squares(g, others):
    """g (n,) += all rows of others (W − 1, n); returns Σ g² in float64, which cannot overflow."""
    for k in range(others.shape[0]):
        for i in range(g.size):
            g[i] += others[k, i]
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@njit(fastmath={"reassoc", "contract"}, error_model="numpy", nogil=True, cache=True)
def adamw(p, g, m, v, clip, step, decay, beta1, beta2, correction, eps):
    """p, m, v in place, flat arrays (n,) of float32; clipping costs no pass of its own.

    d² may be infinite before `min`, which is why infinities are not assumed away here.
    """
    clip, step, decay = np.float32(clip), np.float32(step), np.float32(decay)
    beta1, beta2 = np.float32(beta1), np.float32(beta2)
    correction, eps = np.float32(correction), np.float32(eps)
    for i in range(p.size):
        d = clip * g[i]
        m[i] = beta1 * m[i] + (ONE - beta1) * d
        v[i] = min(beta2 * v[i] + (ONE - beta2) * d * d, MOST)
        p[i] = p[i] * decay - step * m[i] / (np.sqrt(v[i]) * correction + eps)
