"""Day 38 · Causal attention of many heads in one kernel: split, score, softmax, average, merge.

One task is one head of one sequence, and all it touches stays in its core's cache. It reads
queries, keys and values where the projection left them and writes the merged output, and it skips
the tiles of the future: a quarter of the reference's work at T = 64, and half for long texts.

The products are made of `add_rows` (tiles.py). Differs from functions/heads.py in the order of
additions, and in what it saves: the softmax's weights padded to whole tiles, and the output.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.threads import share
from llm.kernels.tiles import (
    LANES,
    SHARED,
    add_rows,
    put_back,
    rows_of,
    tiles_of,
    transposed,
    turn,
    turned_rows_of,
)

HUGE = np.float32(1e30)


@njit(fastmath=True, error_model="numpy")
def softmax_row(scores, start, n, width, factor):
    """n scores from `start` become softmax(factor · scores); the rest up to width become 0."""
    s = scores[start:start + width]
    s[n:] = -HUGE                        # whole tiles: no leftovers for the compiler to do singly
    top = s[0]
    for j in range(width):
        top = max(top, s[j])
    total = np.float32(0)
    for j in range(width):
        s[j] = exp32(factor * (s[j] - top))
        total += s[j]
    inverse = np.float32(1) / total
    for j in range(width):
        s[j] *= inverse
    s[n:] = 0


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def attend(qkv, H, factor, cos, sin, out, weights):
    """qkv (B, T, 3C), out (B, T, C), weights (B·H, P·P): the softmax's rows, P = T padded."""
    B, T, C = out.shape
    D = C // H
    P, Q = (T + LANES - 1) // LANES * LANES, (D + LANES - 1) // LANES * LANES
    for task in prange(B * H):
        b, low = task // H, task % H * D
        q = turned_rows_of(qkv, b, low, D, P, Q, cos, sin)
        k = turned_rows_of(qkv, b, C + low, D, P, Q, cos, sin)
        kt = tiles_of(transposed(k, P, Q), Q, P)
        v = tiles_of(rows_of(qkv, b, 2 * C + low, D, P, Q), P, Q)
        w, y = weights[task], np.zeros(P * Q, np.float32)
        w[:] = 0                                                # rows T to P stay 0
        for t in range(0, T, SHARED):
            width = (t // LANES + 1) * LANES                    # tiles of the future are skipped
            for s in range(0, width, LANES):
                add_rows(w, t * P + s, P, q, t * Q, Q, kt, s * Q, Q)
            for i in range(t, min(t + SHARED, T)):
                softmax_row(w, i * P, i + 1, width, factor)
            for d in range(0, Q, LANES):
                add_rows(y, d * P + t * LANES, LANES, w, t * P, P, v, d * P, t + SHARED)
        put_back(y, P, T, D, out, b, low)


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def attend_back(dout, qkv, out, weights, H, factor, cos, sin, dqkv):
    """dqkv (B, T, 3C) ← the gradient; the other shapes as in `attend`."""
    B, T, C = dout.shape
    D = C // H
    P, Q = (T + LANES - 1) // LANES * LANES, (D + LANES - 1) // LANES * LANES
    back = -sin                                                    # the opposite angles
    for task in prange(B * H):
        b, low = task // H, task % H * D
        q = tiles_of(turned_rows_of(qkv, b, low, D, P, Q, cos, sin), P, Q)
        k = tiles_of(turned_rows_of(qkv, b, C + low, D, P, Q, cos, sin), P, Q)
        vt = tiles_of(transposed(rows_of(qkv, b, 2 * C + low, D, P, Q), P, Q), Q, P)
        dy, y = rows_of(dout, b, low, D, P, Q), rows_of(out, b, low, D, P, Q)
        dy_tiles, w, ds = tiles_of(dy, P, Q), weights[task], np.zeros(P * P, np.float32)
        dq, dk, dv = (np.zeros(P * Q, np.float32), np.zeros(P * Q, np.float32),
                      np.zeros(P * Q, np.float32))
        for t in range(0, T, SHARED):
            width = (t // LANES + 1) * LANES
            for s in range(0, width, LANES):                       # ∂loss/∂weights
                add_rows(ds, t * P + s, P, dy, t * Q, Q, vt, s * Q, Q)
            for i in range(t, t + SHARED):
                scores_back(ds[i * P:i * P + width], w[i * P:i * P + width],
                            dy[i * Q:i * Q + Q], y[i * Q:i * Q + Q], factor)
            for d in range(0, Q, LANES):
                add_rows(dq, d * P + t * LANES, LANES, ds, t * P, P, k, d * P, t + SHARED)
        wt, dst = transposed(w, P, P), transposed(ds, P, P)
        for s in range(0, T, SHARED):                              # only queries from s on see s
            for d in range(0, Q, LANES):
                at, seen = d * P + s * LANES, s * P + s
                add_rows(dk, at, LANES, dst, seen, P, q, at, P - s)
                add_rows(dv, at, LANES, wt, seen, P, dy_tiles, at, P - s)
        put_back(dq, P, T, D, dqkv, b, low)
        put_back(dk, P, T, D, dqkv, b, C + low)
        put_back(dv, P, T, D, dqkv, b, 2 * C + low)
        for t in range(len(cos)):
            turn(dqkv[b, t, low:low + D], cos, back, t)
            turn(dqkv[b, t, C + low:C + low + D], cos, back, t)


@njit(fastmath=True, error_model="numpy")
def scores_back(ds, w, dy, y, factor):
    """Through the softmax: ds ← factor · w ⊙ (ds − Σ w ⊙ ds), and that sum is dy · y."""
    mean = np.float32(0)
    for d in range(dy.size):
        mean += dy[d] * y[d]
    for s in range(ds.size):
        ds[s] = factor * w[s] * (ds[s] - mean)


def multi_head(qkv, H, rule=None):
    """The twin of functions.heads.multi_head, float32, for rules that turn pairs or do nothing.

    qkv (B, T, 3C) -> (B, T, C). Steps aside for a rule with a bias (ALiBi) or interleaved pairs.
    """
    if rule is None or qkv.ndim != 3 or H < 1 or qkv.shape[2] % (3 * H):
        return NotImplemented                                 # the reference says what is wrong
    if (tables := rule.tables(qkv.shape[1])) is None:
        return NotImplemented
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    if tables[0].size and (tables[0].shape != (T, C // H // 2) or C // H % 2):
        return NotImplemented
    P = -(-T // LANES) * LANES
    out, weights = np.empty((B, T, C), np.float32), np.empty((B * H, P * P), np.float32)
    factor = np.float32((C // H) ** -0.5)
    share(out.size * T)
    attend(qkv, H, factor, *tables, out, weights)
    return out, (qkv, out, weights, H, factor, tables)


def multi_head_vjp(dout, qkv, out, weights, H, factor, tables):
    """dqkv (B, T, 3C); two products a tile where the forward has one."""
    dqkv = np.empty_like(qkv)
    share(out.size * out.shape[1])
    attend_back(dout, qkv, out, weights, H, factor, *tables, dqkv)
    return (dqkv,)
