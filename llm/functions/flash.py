"""Day 50 · Flash attention as derived: causal attention without a T × T array, and its backward.

What queries have learned from some of the keys is a `summary` (m, l, o): the largest score, the sum
of exponentials and the sum of values weighted by them, both relative to m. Two summaries of
different keys `merge` into that of all of them. So the keys may come a tile at a time, in any
grouping, and only one tile of scores exists at once.

Left out: speed (kernels/flash.py), a bias, and other masks than the causal one.
Sources: Milakov & Gimelshein (2018), algorithm 3 and eq. 4; Dao et al. (2022), algorithms 1 and 4;
Dao (2023), algorithms 1 and 2.
"""

import functools
import math

import numpy as np

from llm.functions.causal import check_causal


def summary(scores, values):
    """scores (..., n, s) of s keys, −∞ where hidden, values (..., s, Dv) -> m, l (..., n, 1),
    o (..., n, Dv). Each query must see one of the keys."""
    m = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - m)                                       # not yet divided by l
    return m, weights.sum(axis=-1, keepdims=True), weights @ values


def merge(a, b):
    """Two summaries of the same queries over different keys -> the summary over all of these."""
    m = np.maximum(a[0], b[0])
    from_a, from_b = np.exp(a[0] - m), np.exp(b[0] - m)                # one of the two is 1
    return m, from_a * a[1] + from_b * b[1], from_a * a[2] + from_b * b[2]


def flash_attention(q, k, v, tile=64):
    """Causal softmax(q kᵀ/√D) v: q, k (..., T, D), v (..., T, Dv) -> out (..., T, Dv), saved.

    Scores of tile · tile pairs exist at a time. Saved beside inputs and output is one number a
    query, m + log l (..., T, 1). Costs T(T + tile)(D + Dv) FLOPs for each leading index.
    Raises ValueError where shapes do not fit or tile < 1.
    """
    check_causal(q, k, v)
    if tile < 1:
        raise ValueError(f"a tile of {tile} tokens: choose 1 or more")
    T, dtype = q.shape[-2], np.result_type(q, k, v)
    out, logs = np.empty((*q.shape[:-1], v.shape[-1]), dtype), np.empty((*q.shape[:-1], 1), dtype)
    for t in range(0, T, tile):
        rows = slice(t, t + tile)
        parts = (summary(tile_scores(q, k, t, s, tile), v[..., s:s + tile, :])
                 for s in range(0, t + 1, tile))                       # later tiles are the future
        m, l, o = functools.reduce(merge, parts)
        out[..., rows, :], logs[..., rows, :] = o / l, m + np.log(l)
    return out, (q, k, v, out, logs, tile)


def flash_attention_vjp(dout, q, k, v, out, logs, tile):
    """dout (..., T, Dv) -> dq, dk, dv. The weights are made again from the scores and `logs`.

    Five products a tile, for the forward's two: T(T + tile)(3D + 2Dv) FLOPs.
    """
    T, dtype = q.shape[-2], out.dtype
    dq, dk, dv = (np.zeros(x.shape, dtype) for x in (q, k, v))
    mean = (dout * out).sum(axis=-1, keepdims=True)                    # (..., T, 1)
    for s in range(0, T, tile):
        keys = slice(s, s + tile)
        for t in range(s, T, tile):
            rows = slice(t, t + tile)
            p = np.exp(tile_scores(q, k, t, s, tile) - logs[..., rows, :])
            dp = dout[..., rows, :] @ v[..., keys, :].swapaxes(-1, -2)
            ds = p * (dp - mean[..., rows, :]) / math.sqrt(q.shape[-1])
            dv[..., keys, :] += p.swapaxes(-1, -2) @ dout[..., rows, :]
            dq[..., rows, :] += ds @ k[..., keys, :]
            dk[..., keys, :] += ds.swapaxes(-1, -2) @ q[..., rows, :]
    return dq, dk, dv


def tile_scores(q, k, t, s, tile):
    """Scores (..., ≤ tile, ≤ tile) of queries t … and keys s …; −∞ where a key is later."""
    scores = q[..., t:t + tile, :] @ k[..., s:s + tile, :].swapaxes(-1, -2)
    scores = scores / math.sqrt(q.shape[-1])
    if s < t:
        return scores                                                  # all of it is the past
    return np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
