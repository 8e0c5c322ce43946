"""Day 38 · The linear layer's epilogue, and GELU.

The products themselves are BLAS's; what a kernel can save is everything around them: the bias is
added in place, its gradient summed by all threads, and GELU makes one pass with one exponential.
"""

import math

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import ONE, exp32
from llm.kernels.threads import CHUNKS, share

SQRT_2_PI, CUBIC = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
FAR = np.float32(9)              # beyond, e^-2u < 1e-28: nothing to add to 1, and x² may overflow


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def gelu_rows(x, out):
    """out ← x · σ(2u), u = √(2/π)(x + 0.044715x³): the same as ½x(1 + tanh u), one exp."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            a = min(max(x[i, j], -FAR), FAR)
            u = SQRT_2_PI * (a + CUBIC * a * a * a)
            out[i, j] = max(x[i, j], -FAR) / (ONE + exp32(-(u + u)))


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def gelu_back_rows(dout, x, dx):
    """dx ← dout · (s + x·s·(1 − s)·2u′), s = σ(2u).

    1 − s is taken as e·s with e = e^(−2u): near s = 1 the subtraction would leave only rounding.
    """
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            a = min(max(x[i, j], -FAR), FAR)
            u = SQRT_2_PI * (a + CUBIC * a * a * a)
            e = exp32(-(u + u))
            s = ONE / (ONE + e)
            slope = (SQRT_2_PI + SQRT_2_PI) * (ONE + np.float32(3) * CUBIC * a * a)
            dx[i, j] = dout[i, j] * s * (ONE + a * (e * s) * slope)


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def add_bias_rows(y, b):
    """y (N, C) ← y + b (C,) in place: the epilogue of a linear layer."""
    for i in prange(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[j]


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def column_sums(y, partial):
    """partial (CHUNKS, C) ← sums over CHUNKS groups of rows; their sum is the bias's gradient."""
    n = y.shape[0]
    for chunk in prange(CHUNKS):
        partial[chunk] = 0
        for i in range(n * chunk // CHUNKS, n * (chunk + 1) // CHUNKS):
            for j in range(y.shape[1]):
                partial[chunk, j] += y[i, j]


def linear(x, w, b=None):
    """The twin of rules.linear, float32: x (..., Cin), w (Cin, Cout), b (Cout,) -> (..., Cout).

    The bias is added in place: no second array of the output's size.
    """
    if (x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]
            or (b is not None and b.shape != w.shape[1:])):
        return NotImplemented                                 # the reference says what is wrong
    y = x.reshape(-1, x.shape[-1]) @ w                                # (N, Cout)
    if b is not None:
        share(y.size)
        add_bias_rows(y, b)
    return y.reshape(*x.shape[:-1], w.shape[1]), (x, w, b is not None)


def linear_vjp(dout, x, w, has_bias):
    """dx = dout wᵀ, dw = xᵀ dout, db = Σ dout over all rows (day 14)."""
    rows = dout.reshape(-1, dout.shape[-1])                           # (N, Cout)
    dx = np.empty(x.shape, np.float32)
    np.matmul(rows, w.T, out=dx.reshape(-1, x.shape[-1]))
    dw = x.reshape(-1, x.shape[-1]).T @ rows                          # (Cin, Cout)
    if not has_bias:
        return dx, dw, None
    partial = np.empty((CHUNKS, rows.shape[1]), np.float32)
    share(rows.size)
    column_sums(rows, partial)
    return dx, dw, partial.sum(axis=0)


def gelu(x):
    """The twin of rules.gelu, float32: saves x alone, as the reference does."""
    out, C = np.empty(x.shape, np.float32), x.shape[-1]
    share(4 * x.size)                                                 # an exp each
    gelu_rows(x.reshape(-1, C), out.reshape(-1, C))
    return out, (x,)


def gelu_vjp(dout, x):
    """The sigmoid is computed again: one exponential is cheaper than an array that is kept."""
    dx, C = np.empty(x.shape, np.float32), x.shape[-1]
    share(4 * x.size)
    gelu_back_rows(dout.reshape(-1, C), x.reshape(-1, C), dx.reshape(-1, C))
    return (dx,)
