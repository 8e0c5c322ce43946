"""Day 52 · The parts of a prompt that are not products with weights: norms, rotation, attention.

n tokens at once, float32, all threads. Attention takes COLUMNS queries of one head at a time, and
lays their scores out as keys by queries, with the queries in the lanes: then neither keys nor
values need another order than the cache has, and the softmax over keys is a loop over rows. The
scores of a block of queries stay in the near cache; nothing of size (n, T) is made. Left out:
scores in pieces with a running maximum (day 50), which contexts beyond 10,000 tokens would need.
"""

import numpy as np
from numba import get_thread_id, njit, prange

from llm.kernels.elementwise import LOWEST, exp32
from llm.kernels.floats import COLUMNS, LANES, ROWS, SOME, tile

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
    """out (D,) ← factor · x, pairs (i, i + D/2) turned by day 31's angles."""
    half = cos.size
    for i in range(half):
        a, b = x[i], x[i + half]
        out[i] = factor * (a * cos[i] - b * sin[i])
        out[i + half] = factor * (a * sin[i] + b * cos[i])


@njit(fastmath=True, error_model="numpy", parallel=True, cache=True)
def place(qkv, start, H, K, cos, sin, k, v, q):
    """Rotate and store: k, v (K, T, D) from `start` on, and q (H, D, ≥ n), scaled by 1/√D.

    qkv (n, ≥ (H + 2K)·D): queries, keys, values of n tokens.
    """
    D = q.shape[1]
    factor = ONE / np.sqrt(np.float32(D))
    for i in prange(qkv.shape[0]):
        t = start + i
        for h in range(H):
            turn(qkv[i, h * D:h * D + D], cos[t], sin[t], factor, q[h, :, i])
        for g in range(K):
            at = (H + g) * D
            turn(qkv[i, at:at + D], cos[t], sin[t], ONE, k[g, t])
            for d in range(D):
                v[g, t, d] = qkv[i, at + K * D + d]


@njit(fastmath=True, error_model="numpy")
def weights_of(scores, end, first, total):
    """scores (≥ end, COLUMNS): exp(score − the largest of its column); total[1] ← their sums.

    Column i sees rows 0 … first + i; the others get the smallest number that `exp32` makes, 1e-38
    of the largest. A loop over columns is a register or two: nothing here crosses lanes.
    """
    top, sums, seen = total[0], total[1], min(first + 1, end)
    for i in range(COLUMNS):
        top[i], sums[i] = scores[0, i], ZERO
    for t in range(seen):                                       # rows that all columns see
        for i in range(COLUMNS):
            top[i] = scores[t, i] if scores[t, i] > top[i] else top[i]
    for t in range(seen, end):
        for i in range(t - first, COLUMNS):
            top[i] = max(top[i], scores[t, i])
    for t in range(seen, end):
        for i in range(min(t - first, COLUMNS)):
            scores[t, i] = top[i] + LOWEST
    for t in range(end):
        for i in range(COLUMNS):
            weight = exp32(scores[t, i] - top[i])
            scores[t, i] = weight
            sums[i] += weight


@njit(error_model="numpy", parallel=True, cache=True)
def attend_rows(q, k, v, n, start, desks, out):
    """out (≥ n, H·D) ← attention of q (H, D, n padded) at positions start … start + n − 1.

    k, v (K, T, D), T ≥ ROWS, D a multiple of COLUMNS. desks (threads, T + 2, COLUMNS): scores.
    n is padded to a multiple of COLUMNS; what is computed there is not read. 4·H·D FLOPs a query
    and a key. Queries with few keys and with many take turns, so that threads get as much each.
    """
    H, D, wide = q.shape
    parts = (n + COLUMNS - 1) // COLUMNS
    for part in prange(H * parts):
        h, i = part % H, part // H
        first = (i // 2 if i % 2 else parts - 1 - i // 2) * COLUMNS
        g, end = h // (H // k.shape[0]), start + min(first + COLUMNS, n)
        total, scores = desks[get_thread_id(), :2], desks[get_thread_id(), 2:]
        for t in range(0, end, ROWS):
            at = min(t, k.shape[1] - ROWS)                      # the last ones overlap
            tile(k[g, at].ctypes.data, 4 * D, 4, q[h].ctypes.data + 4 * first, 4 * wide,
                 scores[at].ctypes.data, 4 * COLUMNS, D, ROWS, COLUMNS, LANES)
        weights_of(scores, end, start + first, total)
        for d in range(0, D, COLUMNS):
            for j in range(0, COLUMNS, SOME):
                tile(scores.ctypes.data + 4 * j, 4, 4 * COLUMNS, v[g].ctypes.data + 4 * d, 4 * D,
                     out[first + j].ctypes.data + 4 * (h * D + d), 4 * H * D, end, SOME, COLUMNS,
                     LANES)
        for j in range(min(COLUMNS, n - first)):
            inverse = ONE / total[1, j]
            for d in range(D):
                out[first + j, h * D + d] *= inverse
