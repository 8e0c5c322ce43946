"""Day 49 · Grouped queries: K heads of keys and values serve H heads of queries.

Query head h uses key head h // G, where G = H / K heads form a group. `spread` writes every key
and value head G times, side by side, and what comes out is day 29's input. So attention itself,
its rules and its kernels stay as they are. Left out: attention that reads shared keys in place,
which would save the copy (day 42's `attend` and day 43's engine do that, for decoding).
"""

import numpy as np


def spread(qkv, H, K):
    """(B, T, (H + 2K)·D) -> (B, T, 3·H·D), saved: queries as they are, each key and value G times.

    No FLOPs. Writes 3·H·D numbers a token and reads (H + 2K)·D of them; with K = H nothing is
    copied. Raises ValueError where K does not divide H, or the last axis is not H + 2K heads.
    Source: Ainslie et al. (2023), section 2.2.
    """
    check_groups(H, K)
    if qkv.ndim != 3 or qkv.shape[-1] % (H + 2 * K):
        raise ValueError(f"grouped queries of shape {qkv.shape} with {H} heads of queries and {K} "
                         f"of keys: wanted (B, T, {H + 2 * K}·D)")
    if H == K:
        return qkv, (H, K)
    B, T, width = qkv.shape
    D = width // (H + 2 * K)
    out = np.empty((B, T, 3 * H * D), qkv.dtype)
    out[..., :H * D] = qkv[..., :H * D]
    shared = qkv[..., H * D:].reshape(B, T, 2 * K, 1, D)        # keys, then values
    out[..., H * D:].reshape(B, T, 2 * K, H // K, D)[...] = shared
    return out, (H, K)


def spread_vjp(dout, H, K):
    """dout (B, T, 3·H·D) -> (B, T, (H + 2K)·D): a shared head's gradient is its group's sum.

    2·(H − K)·D additions a token.
    """
    if H == K:
        return (dout,)
    B, T, width = dout.shape
    D = width // (3 * H)
    copies = dout[..., H * D:].reshape(B, T, 2 * K, H // K, D)
    shared = copies.sum(axis=3).reshape(B, T, 2 * K * D)
    return (np.concatenate([dout[..., :H * D], shared], axis=-1),)


def check_groups(H, K):
    """ValueError unless H heads of queries are K groups of equal size."""
    if K < 1 or H < 1 or H % K:
        raise ValueError(f"{K} heads of keys and values do not divide {H} heads of queries evenly")
