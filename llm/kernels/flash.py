"""Day 50 · Flash attention, forward: the softmax's weights are used up tile by tile, never stored.

The twin of functions/heads.multi_head, float32. A task is PANELS · LANES queries of one head. It
meets the keys in tiles and keeps for each query the largest score m, the sum l of exponentials and
the weighted sum of values so far; when m grows, the other two are corrected. Tiles of the future
are not visited. What is saved beside the input is the output and one number a query, its
log-sum-exp.

Differs from functions/flash.py in the order of additions, and in float32. Left out: grouped
queries, windows, dropout of weights, and rules with a bias. The way back is in flash_back.py.
Source: Dao (2023), FlashAttention-2, algorithm 1; the layout, queries in the lanes, is our own.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.flash_back import attend_back
from llm.kernels.flash_tiles import SUMS, add_rows, hide, load_rows, panel_of, up
from llm.kernels.threads import share
from llm.kernels.tiles import LANES, SHARED

KEYS = 64                        # keys in a tile; a multiple of LANES
PANELS = 4                       # panels of LANES queries in a task: they share each tile of keys
HUGE = np.float32(1e30)          # more than any score; with ∞ the first correction were ∞ − ∞


@njit(fastmath=SUMS, error_model="numpy")
def score(s, n, k, q, Q):
    """s (n, LANES) ← the products of n keys, rows of Q, with a panel q (Q, LANES) of queries."""
    s[:n * LANES] = 0
    for r in range(0, n, SHARED):
        add_rows(s, r * LANES, k, r * Q, Q, 1, q, 0, Q)


@njit(fastmath=SUMS, error_model="numpy")
def meet(s, n, diagonal, factor, m, l, correction):
    """Online softmax: scores s (n, LANES), a row for each key, become exp(factor · (s − m)).

    m, l (LANES,): each query's largest score and sum of exponentials so far, brought up to date.
    correction (LANES,) ← what earlier exponentials must be multiplied by, now that m has grown.
    Key `diagonal` + j is the last that query j sees; later ones get weight 0.
    """
    hide(s, n, diagonal, -HUGE)
    for j in range(LANES):
        correction[j] = m[j]
    for r in range(0, n, 4):
        x = s[r * LANES:(r + 4) * LANES]
        for j in range(LANES):
            m[j] = max(m[j], max(max(x[j], x[j + LANES]),
                                 max(x[j + 2 * LANES], x[j + 3 * LANES])))
    for j in range(LANES):
        correction[j] = exp32(factor * (correction[j] - m[j]))
        l[j] *= correction[j]
    for r in range(n):
        x = s[r * LANES:(r + 1) * LANES]
        for j in range(LANES):
            x[j] = exp32(factor * (x[j] - m[j]))
            l[j] += x[j]
    hide(s, n, diagonal, np.float32(0))


@njit(fastmath=SUMS, error_model="numpy")
def average(o, Q, correction, s, n, v):
    """o (Q, LANES) ← o · correction + vᵀ s: the values (n, Q) weighted by the exponentials s."""
    for d in range(Q):
        row = o[d * LANES:(d + 1) * LANES]
        for j in range(LANES):
            row[j] *= correction[j]
    for d in range(0, Q, SHARED):
        add_rows(o, d * LANES, v, d, 1, Q, s, 0, n)


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def attend(qkv, H, factor, cos, sin, out, logs):
    """qkv (B, T, 3C), out (B, T, C), logs (B, H, T): log Σ exp of each query's scaled scores."""
    B, T, C = out.shape
    D, tiles = C // H, up(T, PANELS * LANES) // (PANELS * LANES)
    Q = up(D, SHARED)
    for task in prange(B * H * tiles):
        b, h, i = task // tiles // H, task // tiles % H, task % tiles
        i = i // 2 if i % 2 == 0 else tiles - 1 - i // 2       # a short task, then a long one
        start, low, size = i * PANELS * LANES, h * D, Q * LANES
        panels = min(PANELS, up(T - start, LANES) // LANES)
        k, v = np.empty(KEYS * Q, np.float32), np.empty(KEYS * Q, np.float32)
        q, o = np.empty(panels * size, np.float32), np.zeros(panels * size, np.float32)
        m, l = np.full(panels * LANES, -HUGE, np.float32), np.zeros(panels * LANES, np.float32)
        s, correction = np.empty(KEYS * LANES, np.float32), np.empty(LANES, np.float32)
        for p in range(panels):
            load_rows(qkv, b, low, D, start + p * LANES, LANES, Q, cos, sin, k)
            panel_of(k, Q, q[p * size:(p + 1) * size])
        for first in range(0, start + panels * LANES, KEYS):
            load_rows(qkv, b, C + low, D, first, KEYS, Q, cos, sin, k)
            load_rows(qkv, b, 2 * C + low, D, first, KEYS, Q, cos[:0], sin, v)
            for p in range(panels):
                diagonal = start + p * LANES - first           # query 0's own place in this tile
                n = min(KEYS, diagonal + LANES)                # keys that are the past of any query
                if n > 0:
                    lanes = slice(p * LANES, (p + 1) * LANES)
                    panel = slice(p * size, (p + 1) * size)
                    score(s, n, k, q[panel], Q)
                    meet(s, n, diagonal, factor, m[lanes], l[lanes], correction)
                    average(o[panel], Q, correction, s, n, v)
        for t in range(start, min(T, start + panels * LANES)):
            j, p = t % LANES, (t - start) // LANES
            total = l[t - start]
            logs[b, h, t] = factor * m[t - start] + np.log(total)
            for d in range(D):
                out[b, t, low + d] = o[p * size + d * LANES + j] / total


def multi_head(qkv, H, rule=None):
    """qkv (B, T, 3C) -> (B, T, C), for rules that turn pairs or do nothing, as in day 38's twin.

    Beside input and output it keeps 4·B·H·T bytes. Steps aside, by NotImplemented, for a rule
    with a bias (ALiBi), interleaved pairs, and shapes that the reference refuses.
    """
    if rule is None or qkv.ndim != 3 or 0 in qkv.shape[1:] or H < 1 or qkv.shape[2] % (3 * H):
        return NotImplemented
    if (tables := rule.tables(qkv.shape[1])) is None:
        return NotImplemented
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    if tables[0].size and (tables[0].shape != (T, C // H // 2) or C // H % 2):
        return NotImplemented
    out, logs = np.empty((B, T, C), np.float32), np.empty((B, H, T), np.float32)
    factor = np.float32((C // H) ** -0.5)
    share(out.size * T)
    attend(qkv, H, factor, *tables, out, logs)
    return out, (qkv, out, logs, H, factor, tables)


def multi_head_vjp(dout, qkv, out, logs, H, factor, tables):
    """dout (B, T, C) -> dqkv (B, T, 3C): five products a tile, for the forward's two."""
    dqkv = np.empty_like(qkv)
    share(out.size * out.shape[1])
    attend_back(dout, qkv, out, logs, H, factor, *tables, dqkv)
    return (dqkv,)
