"""Day 50 · Three ways to the same attention, and what one call of each costs by the account."""

import numpy as np

from llm.functions import heads
from llm.kernels import attention, flash

WAYS = {                          # name -> (forward, backward), called as heads.multi_head is
    "NumPy": (heads.multi_head, heads.multi_head_vjp),
    "day 38": (attention.multi_head, attention.multi_head_vjp),
    "flash": (flash.multi_head, flash.multi_head_vjp),
}


def inputs(B, T, H, D, seed=0, dtype=np.float32):
    """qkv (B, T, 3·H·D) and dout (B, T, H·D), from N(0, 1)."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((B, T, 3 * H * D), dtype=np.float32).astype(dtype),
            rng.standard_normal((B, T, H * D), dtype=np.float32).astype(dtype))


def twice(way, qkv, dout, H):
    """Forward and backward: out (B, T, C) and dqkv (B, T, 3C)."""
    f, f_vjp = way
    out, saved = f(qkv, H, heads.NO_RULE)
    return out, f_vjp(dout, *saved)[0]


def flops(B, T, H, D):
    """Of the forward's two products without the future: T²/2 pairs, 2 · 2D each."""
    return 2 * B * H * T * T * D
