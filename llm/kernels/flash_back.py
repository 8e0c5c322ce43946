"""Day 50 · Flash attention, backward: the weights are made again, tile by tile, and used twice.

A task is one head of one sequence: all its sums are made by one thread in one order, so nothing
races and the result is the same on any number of threads. Its own copies of q, k, v and dout, and
its dq, are O(T); dk and dv are those of one tile of keys. A tile costs five products: scores,
weights' gradient, and what they add to dv, dk and dq.

Left out: a single long head on many threads (it would want dq in parts, or seven products).
Source: Dao (2023), FlashAttention-2, algorithm 2, with the loops over heads outermost.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.flash_tiles import SUMS, add_rows, hide, load_rows, panel_of, up
from llm.kernels.tiles import LANES, SHARED, tiles_of, turn

KEYS = 64                        # keys in a tile; a multiple of LANES


@njit(fastmath=SUMS, error_model="numpy")
def scores_back(s, ds, n, diagonal, factor, logs, mean):
    """s (n, LANES) of scores become weights P; ds of ∂loss/∂P become factor · P ⊙ (ds − mean)."""
    for r in range(n):
        p = s[r * LANES:(r + 1) * LANES]
        for j in range(LANES):
            p[j] = exp32(factor * p[j] - logs[j])
    hide(s, n, diagonal, np.float32(0))
    for r in range(n):
        p, d = s[r * LANES:(r + 1) * LANES], ds[r * LANES:(r + 1) * LANES]
        for j in range(LANES):
            d[j] = factor * p[j] * (d[j] - mean[j])


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def attend_back(dout, qkv, out, logs, H, factor, cos, sin, dqkv):
    """dqkv (B, T, 3C) ← the gradient; dout, out (B, T, C), logs (B, H, T) as the forward left."""
    B, T, C = dout.shape
    D, P = C // H, up(T, KEYS)
    Q, size = up(D, LANES), up(D, LANES) * LANES
    none = cos[:0]
    for task in prange(B * H):
        b, h, low = task // H, task % H, task % H * D
        k, v = np.empty(P * Q, np.float32), np.empty(P * Q, np.float32)
        q, dy = np.empty(P * Q, np.float32), np.empty(P * Q, np.float32)
        qt, dyt = np.empty(P * Q, np.float32), np.empty(P * Q, np.float32)
        load_rows(qkv, b, low, D, 0, P, Q, cos, sin, q)
        load_rows(qkv, b, C + low, D, 0, P, Q, cos, sin, k)
        load_rows(qkv, b, 2 * C + low, D, 0, P, Q, none, sin, v)
        load_rows(dout, b, low, D, 0, P, Q, none, sin, dy)
        for i in range(0, P * Q, size):
            panel_of(q[i:i + size], Q, qt[i:i + size])
            panel_of(dy[i:i + size], Q, dyt[i:i + size])
        q, dy = tiles_of(q, P, Q), tiles_of(dy, P, Q)             # Q / LANES tiles (P, LANES)
        mean, log = np.zeros(P, np.float32), np.zeros(P, np.float32)
        for t in range(T):
            log[t] = logs[b, h, t]
            for d in range(D):
                mean[t] += dout[b, t, low + d] * out[b, t, low + d]
        dq, dk, dv = (np.zeros(P * Q, np.float32), np.empty(KEYS * Q, np.float32),
                      np.empty(KEYS * Q, np.float32))
        s, ds = np.empty(KEYS * LANES, np.float32), np.empty(KEYS * LANES, np.float32)
        for first in range(0, T, KEYS):
            dk[:] = 0
            dv[:] = 0
            for t in range(first, up(T, LANES), LANES):           # panels of queries
                n, panel = min(KEYS, t + LANES - first), t * Q
                s[:n * LANES] = 0
                ds[:n * LANES] = 0
                for r in range(0, n, SHARED):
                    add_rows(s, r * LANES, k, (first + r) * Q, Q, 1, qt, panel, Q)
                    add_rows(ds, r * LANES, v, (first + r) * Q, Q, 1, dyt, panel, Q)
                scores_back(s, ds, n, t - first, factor, log[t:t + LANES], mean[t:t + LANES])
                for d in range(0, Q, LANES):
                    for r in range(0, n, SHARED):
                        o, x = (d * KEYS) + r * LANES, d * P + t * LANES
                        add_rows(dv, o, s, r * LANES, LANES, 1, dy, x, LANES)
                        add_rows(dk, o, ds, r * LANES, LANES, 1, q, x, LANES)
                for d in range(0, Q, SHARED):
                    add_rows(dq, panel + d * LANES, k, first * Q + d, 1, Q, ds, 0, n)
            for t in range(first, min(first + KEYS, T)):
                for d in range(D):
                    at = d // LANES * LANES * KEYS + (t - first) * LANES + d % LANES
                    dqkv[b, t, C + low + d] = dk[at]
                    dqkv[b, t, 2 * C + low + d] = dv[at]
        back = -sin
        for t in range(T):
            row = dqkv[b, t]
            for d in range(D):
                row[low + d] = dq[t // LANES * size + d * LANES + t % LANES]
            if t < len(cos):
                turn(row[low:low + D], cos, back, t)
                turn(row[C + low:C + low + D], cos, back, t)
