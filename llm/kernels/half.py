"""Day 38 · The linear layer and the head on bfloat16 products, forward and backward.

The twins of rules.linear and unembed. Both operands of every product are rounded to bfloat16
(day 37) while they are packed. Sums, biases and results are float32, and so are the weights that
the optimizer changes. With AVX512-BF16 the product is half_tiles.py's; on any other processor both
operands are rounded and BLAS multiplies: the same numbers but for the order of sums, no faster.
Left out: arrays kept in 16 bits, which would also halve the memory. Source: Micikevicius et al.
(2018), section 3.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.cpu import features
from llm.kernels.dense import column_sums
from llm.kernels.half_tiles import COLUMNS, ROWS, multiply
from llm.kernels.threads import CHUNKS, share

NATIVE = {"avx512f", "avx512bf16"}.issubset(features())
APART = 16                      # pairs between rows: rows 4 KiB apart would share lines of the L1
CLOSE = 16                      # pairs of rows that are packed together
HIGH, HALF, ONE = np.uint32(0xFFFF0000), np.uint32(0x7FFF), np.uint32(1)
BITS, QUIET, SIGN = np.uint32(16), np.uint32(0x400000), np.uint32(0x7FFFFFFF)
INFINITE = np.uint32(0x7F800000)


@njit(inline="always")
def nearest(u):
    """The bits of a float32, rounded to those of a bfloat16, ties to even; NaN stays NaN."""
    rounded = (u + HALF + ((u >> BITS) & ONE)) & HIGH
    return (u | QUIET) & HIGH if (u & SIGN) > INFINITE else rounded


@njit(inline="always")
def pair(low, high):
    """Two neighbours in k as one number of 32 bits, the first in the lower half."""
    return (nearest(low) >> BITS) | nearest(high)


@njit(parallel=True, error_model="numpy", cache=True)
def round_all(x, out):
    """out ← x rounded to bfloat16, both (N, C) and given as uint32."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = nearest(x[i, j])


@njit(parallel=True, error_model="numpy", cache=True)
def pair_rows(x, out):
    """x (M, K) -> out (1, ≥ M, ≥ pairs): neighbours in a row are pairs already."""
    K = x.shape[1]
    for i in prange(x.shape[0]):
        row, into = x[i], out[0, i]
        for k in range(K // 2):
            into[k] = pair(row[2 * k], row[2 * k + 1])
        if K % 2:
            into[K // 2] = nearest(row[K - 1]) >> BITS


@njit(parallel=True, error_model="numpy", cache=True)
def panels_of_columns(x, width, out):
    """x (K, N) -> out (panels, pairs, width): pairs of rows, `width` columns in a panel.

    A task is a few rows across all panels: what is read lies close together.
    """
    (K, N), pairs = x.shape, out.shape[1]
    for task in prange((pairs + CLOSE - 1) // CLOSE):
        for p in range(out.shape[0]):
            left, right = width * p, min(width * (p + 1), N)
            for k in range(CLOSE * task, min(CLOSE * (task + 1), pairs)):
                into, low = out[p, k, :right - left], x[2 * k, left:right]
                if 2 * k + 1 < K:
                    high = x[2 * k + 1, left:right]
                    for j in range(into.size):
                        into[j] = pair(low[j], high[j])
                else:
                    for j in range(into.size):
                        into[j] = nearest(low[j]) >> BITS


@njit(parallel=True, error_model="numpy", cache=True)
def panels_of_rows(x, width, out):
    """x (N, K) -> out (panels, pairs, width): those of its transpose, `width` rows in a panel."""
    N, K = x.shape
    for p in prange(out.shape[0]):
        for j in range(min(width, N - width * p)):
            row = x[width * p + j]
            for k in range(K // 2):
                out[p, k, j] = pair(row[2 * k], row[2 * k + 1])
            if K % 2:
                out[p, K // 2, j] = nearest(row[K - 1]) >> BITS


@njit(error_model="numpy", cache=True)
def packed_product(a, a_turned, b, b_turned, left, right, start, c):
    """Pack both operands, then multiply: one call, so that threads stay awake in between.

    a (M, K), or (K, M) if a_turned; b (K, N), or (N, K) if b_turned; uint32. left, right: space.
    """
    if b_turned:
        panels_of_rows(b, COLUMNS, right)
    else:
        panels_of_columns(b, COLUMNS, right)
    if a_turned:
        panels_of_columns(a, ROWS, left)
        multiply(left, left.shape[1] * ROWS, 1, ROWS, right, start, c)
    else:
        pair_rows(a, left)
        multiply(left, ROWS * left.shape[2], left.shape[2], 1, right, start, c)


def product(a, b, start=None):
    """a (M, K) · b (K, N) + start (N,) -> (M, N), all float32, a and b rounded to bfloat16.

    Each of a and b is a C-contiguous array or the transpose of one.
    """
    (M, K), N, pairs = a.shape, b.shape[1], (a.shape[1] + 1) // 2
    share(M * N * K // 64)                              # a number costs a hundred operations
    if not NATIVE:
        y = halved(a) @ halved(b)
        return y if start is None else y + start
    a_turned, b_turned = not a.flags.c_contiguous, not b.flags.c_contiguous
    panels = -(-M // ROWS)
    left = np.empty((panels, pairs, ROWS) if a_turned else (1, ROWS * panels, pairs + APART),
                    np.uint32)
    c = np.empty((M, N), np.float32)
    packed_product((a.T if a_turned else a).view(np.uint32), a_turned,
                   (b.T if b_turned else b).view(np.uint32), b_turned, left,
                   aligned((-(-N // COLUMNS), pairs, COLUMNS)),
                   np.zeros(N, np.float32) if start is None else start, c)
    return c


def halved(x):
    """x rounded to bfloat16, as float32; a transpose gives a transpose."""
    if not x.flags.c_contiguous:
        return halved(x.T).T
    out = np.empty(x.shape, np.float32)
    round_all(x.view(np.uint32), out.view(np.uint32))
    return out


def aligned(shape):
    """An empty array of uint32 that begins at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    raw = np.empty(size + 16, np.uint32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip:skip + size].reshape(shape)


def linear(x, w, b=None):
    """The twin of rules.linear: x (..., Cin), w (Cin, Cout), b (Cout,) -> (..., Cout)."""
    if (x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]
            or (b is not None and b.shape != w.shape[1:])):
        return NotImplemented                                 # the reference says what is wrong
    y = product(x.reshape(-1, x.shape[-1]), w, b)             # (N, Cout)
    return y.reshape(*x.shape[:-1], w.shape[1]), (x, w, b is not None)


def linear_vjp(dout, x, w, has_bias):
    """dx = dout wᵀ, dw = xᵀ dout on bfloat16, db = Σ dout in float32."""
    rows = dout.reshape(-1, dout.shape[-1])                   # (N, Cout)
    dx = product(rows, w.T).reshape(x.shape)
    dw = product(x.reshape(-1, x.shape[-1]).T, rows)          # (Cin, Cout)
    if not has_bias:
        return dx, dw, None
    partial = np.empty((CHUNKS, rows.shape[1]), np.float32)
    share(rows.size)
    column_sums(rows, partial)
    return dx, dw, partial.sum(axis=0)


def unembed(x, table):
    """The twin of the head: x (..., C), table (V, C) -> logits (..., V)."""
    if x.ndim < 1 or table.ndim != 2 or x.shape[-1] != table.shape[1]:
        return NotImplemented
    y = product(x.reshape(-1, x.shape[-1]), table.T)
    return y.reshape(*x.shape[:-1], len(table)), (x, table)


def unembed_vjp(dout, x, table):
    """dx = dout · table, dtable = doutᵀ x."""
    rows = dout.reshape(-1, dout.shape[-1])                   # (N, V)
    return product(rows, table).reshape(x.shape), product(rows.T, x.reshape(-1, x.shape[-1]))
