"""Day 54 · Twins of functions/grouped.py: shared keys and values copied, on all threads.

A copy has no FLOPs, and still costs what it reads and writes. NumPy does it on one thread. Left
out: K = H, where nothing is copied.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.threads import share


@njit(parallel=True, error_model="numpy", cache=True)
def spread_rows(x, out, H, K):
    """out (N, 3·H·D) ← x (N, (H + 2K)·D): queries, and each shared head H / K times."""
    D, G = out.shape[1] // (3 * H), H // K
    for i in prange(x.shape[0]):
        copy(out[i, :H * D], x[i, :H * D])
        for h in range(2 * H):
            low, start = (H + h) * D, (H + h // G) * D
            copy(out[i, low:low + D], x[i, start:start + D])


@njit(parallel=True, error_model="numpy", cache=True)
def gather_rows(dout, dx, H, K):
    """dx (N, (H + 2K)·D) ← dout (N, 3·H·D): a shared head gets the sum of its group."""
    D, G = dout.shape[1] // (3 * H), H // K
    for i in prange(dout.shape[0]):
        copy(dx[i, :H * D], dout[i, :H * D])
        for g in range(2 * K):
            low, start = (H + g) * D, (H + g * G) * D
            copy(dx[i, low:low + D], dout[i, start:start + D])
            for h in range(1, G):
                add(dx[i, low:low + D], dout[i, start + h * D:start + (h + 1) * D])


@njit(error_model="numpy")
def copy(to, x):
    """to (n,) ← x (n,). Places counted from a slice's 0 are known not to be negative, which lets
    the compiler copy 16 numbers at once; `out[i, low + d]` is copied one by one."""
    for j in range(to.size):
        to[j] = x[j]


@njit(error_model="numpy")
def add(to, x):
    """to (n,) += x (n,)."""
    for j in range(to.size):
        to[j] += x[j]


def spread(qkv, H, K):
    """The twin of functions.grouped.spread, float32; steps aside where nothing is shared."""
    if K < 1 or H % K or H == K or qkv.ndim != 3 or qkv.shape[2] % (H + 2 * K):
        return NotImplemented                                 # the reference says what is wrong
    B, T, width = qkv.shape
    out = np.empty((B, T, 3 * H * (width // (H + 2 * K))), np.float32)
    share(out.size)
    spread_rows(qkv.reshape(B * T, width), out.reshape(B * T, -1), H, K)
    return out, (H, K)


def spread_vjp(dout, H, K):
    """dout (B, T, 3·H·D) -> (B, T, (H + 2K)·D)."""
    B, T, width = dout.shape
    dx = np.empty((B, T, (H + 2 * K) * (width // (3 * H))), np.float32)
    share(dout.size)
    gather_rows(dout.reshape(B * T, width), dx.reshape(B * T, -1), H, K)
    return (dx,)
