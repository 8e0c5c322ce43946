"""Day 52 · The parts of a prompt that are not products with weights: norms, rotation, attention.

n tokens at once, float32, all threads. Attention takes ROWS queries of one head at a time: their
scores against all keys they may see lie in the near cache, are turned into weights there, and meet
the values. Nothing of size (n, T) is ever made. Keys are transposed once a layer, so that sixteen
keys lie in the lanes. Left out: scores in pieces with a running maximum (day 50), which a context
of some 10,000 tokens would need.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.floats import COLUMNS, LANES, ROWS, tile

ONE, ZERO = np.float32(1), np.float32(0)


@njit(fastmath=True, error_model="numpy", parallel=True, cache=True)
def rms_rows(x, more, gain, eps, out):
    """x (n, C) += more (n, ≥ C), unless that has no rows; out ← x · gain / √(mean x² + eps)."""
    n, C = x.shape
    for i in prange(n):
        if more.shape[0]:
            for j in range(C):
                x[i, j] += more[i, j]
        squares = ZERO
        for j in range(C):
            squares += x[i, j] * x[i, j]
        r = ONE / np.sqrt(squares / np.float32(C) + eps)
        for j in range(C):
            out[i, j] = x[i, j] * r * gain[j]


@njit(fastmath=True, error_model="numpy", parallel=True, cache=True)
def gate_rows(up, gate, out):
    """out (n, F) ← silu(gate) · up, both (n, ≥ F)."""
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            a = gate[i, j]
            out[i, j] = up[i, j] * a / (ONE + exp32(-a))


@njit(fastmath=True, error_model="numpy", inline="always")
def turn(x, cos, sin, factor, out):
    """out (D,) ← factor · x, pairs (i, i + D/2) turned."""
    half = cos.size
    for i in range(half):
        a, b = x[i], x[i + half]
        out[i] = factor * (a * cos[i] - b * sin[i])
        out[i + half] = factor * (a * sin[i] + b * cos[i])


@njit(fastmath=True, error_model="numpy", parallel=True, cache=True)
def place(qkv, start, H, K, cos, sin, k, v, q):
    """Rotate and store: k, v (K, T, D) from `start` on, and q (H, ≥ n, D), scaled by 1/√D.

    qkv (n, ≥ (H + 2K)·D): queries, keys, values of n tokens.
    """
    D = q.shape[2]
    factor = ONE / np.sqrt(np.float32(D))
    for i in prange(qkv.shape[0]):
        t = start + i
        for h in range(H):
            turn(qkv[i, h * D:h * D + D], cos[t], sin[t], factor, q[h, i])
        for g in range(K):
            at = (H + g) * D
            turn(qkv[i, at:at + D], cos[t], sin[t], ONE, k[g, t])
            for d in range(D):
                v[g, t, d] = qkv[i, at + K * D + d]


@njit(error_model="numpy", parallel=True, cache=True)
def transpose_keys(k, end, out):
    """out (K, D, ≥ end) ← k (K, T, D) for the first `end` keys, sixteen at a time."""
    D = k.shape[2]
    for part in prange(k.shape[0] * ((end + 15) // 16)):
        g, first = part % k.shape[0], part // k.shape[0] * 16
        for t in range(first, min(first + 16, end)):
            for d in range(D):
                out[g, d, t] = k[g, t, d]


@njit(fastmath=True, error_model="numpy")
def weights_of(scores, seen):
    """The first `seen` scores become their softmax, the rest 0."""
    top = scores[0]
    for t in range(seen):
        top = max(top, scores[t])
    total = ZERO
    for t in range(seen):
        scores[t] = exp32(scores[t] - top)
        total += scores[t]
    inverse = ONE / total
    for t in range(seen):
        scores[t] *= inverse
    for t in range(seen, scores.size):
        scores[t] = ZERO


@njit(error_model="numpy", parallel=True, cache=True)
def attend_rows(q, keys, v, n, start, desks, out):
    """out (≥ n, H·D) ← attention of q (H, n padded to ROWS, D) at positions start … start + n − 1.

    keys (K, D, T padded to COLUMNS), transposed; v (K, T, D); D a multiple of COLUMNS. desks
    (threads, ROWS, T padded): scores. out has rows for n padded too. 4·H·D FLOPs a query and a key.
    Queries with few keys and with many take turns, so that threads get about as much each.
    """
    H, _, D = q.shape
    parts = (n + ROWS - 1) // ROWS
    wide = keys.shape[2]
    for part in prange(H * parts):
        h, i = part % H, part // H
        first = (i // 2 if i % 2 else parts - 1 - i // 2) * ROWS
        g, end = h // (H // keys.shape[0]), start + min(first + ROWS, n)
        scores = desks[get_thread_id()]
        for t in range(0, end, COLUMNS):
            tile(q[h, first].ctypes.data, 4 * D, 4, keys[g].ctypes.data + 4 * t, 4 * wide,
                 scores.ctypes.data + 4 * t, 4 * wide, D, ROWS, COLUMNS, LANES)
        for i in range(ROWS):
            weights_of(scores[i, :end], min(start + first + i + 1, end))
        for d in range(0, D, COLUMNS):
            tile(scores.ctypes.data, 4 * wide, 4, v[g].ctypes.data + 4 * d, 4 * D,
                 out[first].ctypes.data + 4 * (h * D + d), 4 * H * D, end, ROWS, COLUMNS, LANES)
