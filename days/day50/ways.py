"""Day 50 · Three ways to the same attention: what one call of each costs, and how exact it is."""

import time
from statistics import median

import numpy as np

from llm.functions import heads
from llm.functions.flash import flash_attention, flash_attention_vjp, tile_scores
from llm.functions.probability import logsumexp
from llm.kernels import attention, flash

WAYS = {                          # name -> (forward, backward), called as heads.multi_head is
    "NumPy": (heads.multi_head, heads.multi_head_vjp),
    "day 38": (attention.multi_head, attention.multi_head_vjp),
    "flash": (flash.multi_head, flash.multi_head_vjp),
}
REST = 0.03                       # seconds for the other pool's threads to fall asleep (day 38)


def inputs(B, T, H, D, seed=0, large=1):
    """qkv (B, T, 3·H·D) and dout (B, T, H·D), from N(0, 1); queries are `large` times larger."""
    rng = np.random.default_rng(seed)
    qkv = rng.standard_normal((B, T, 3 * H * D), dtype=np.float32)
    qkv[..., :H * D] *= large
    return qkv, rng.standard_normal((B, T, H * D), dtype=np.float32)


def twice(way, qkv, dout, H):
    """Forward and backward: out (B, T, C) and dqkv (B, T, 3C)."""
    f, f_vjp = way
    out, saved = f(qkv, H, heads.NO_RULE)
    return out, f_vjp(dout, *saved)[0]


def flops(B, T, H, D):
    """Of the forward's two products without the future: T²/2 pairs, 2 · 2D each."""
    return 2 * B * H * T * T * D


def seconds(names, B, T, H, D, rounds):
    """{way: [seconds forward, seconds backward]}, medians of `rounds`, the ways taken in turns.

    Each turn calls once untimed, so that threads are awake and memory is as the way left it.
    """
    qkv, dout = inputs(B, T, H, D)
    times = {name: ([], []) for name in names}
    for _ in range(rounds):
        for name, (ahead, back) in times.items():
            f, f_vjp = WAYS[name]
            time.sleep(REST)
            for spare in (True, False):
                start = time.perf_counter()
                _, saved = f(qkv, H, heads.NO_RULE)
                middle = time.perf_counter()
                f_vjp(dout, *saved)
                end = time.perf_counter()
                if not spare:
                    ahead.append(middle - start)
                    back.append(end - middle)
                saved = None
    return {name: [median(ahead), median(back)] for name, (ahead, back) in times.items()}


def errors(large, T, H, D, seed):
    """{way: [error of out, error of dqkv]}: root mean square over that of the float64 result.

    Two more rows: the tiled algorithm in NumPy and float32, and the same with what it keeps of the
    softmax, m + log l, in float64.
    """
    qkv, dout = inputs(1, T, H, D, seed, large)
    exact = twice(WAYS["NumPy"], qkv.astype(np.float64), dout.astype(np.float64), H)
    results = {name: twice(way, qkv, dout, H) for name, way in WAYS.items()}
    for name, dtype in (("tiles", np.float32), ("tiles, exact log", np.float64)):
        results[name] = tiled(qkv, dout, H, dtype)
    return {name: [float(np.sqrt(((mine - right)**2).mean() / (right**2).mean()))
                   for mine, right in zip(both, exact)] for name, both in results.items()}


def tiled(qkv, dout, H, dtype):
    """functions/flash.py on (B, T, 3C): out and dqkv; log-sum-exps of the scores in `dtype`."""
    q, k, v = (heads.split_heads(part, H) for part in np.split(qkv, 3, axis=-1))
    out, (*_, logs, tile) = flash_attention(q, k, v)
    if dtype != logs.dtype:
        logs = exact_logs(q, k, tile, dtype)
    grads = flash_attention_vjp(heads.split_heads(dout, H), q, k, v, out, logs, tile)
    return heads.merge_heads(out), np.concatenate([heads.merge_heads(g) for g in grads], axis=-1)


def exact_logs(q, k, tile, dtype):
    """m + log l (..., T, 1) in `dtype`, of the same float32 scores that the tiles have.

    Tile by tile, since one large product may round the same score differently (day 38).
    """
    T = q.shape[-2]
    rows = [np.concatenate([tile_scores(q, k, t, s, tile) for s in range(0, t + 1, tile)], axis=-1)
            for t in range(0, T, tile)]
    return np.concatenate([logsumexp(scores.astype(dtype)) for scores in rows], axis=-1)[..., None]
