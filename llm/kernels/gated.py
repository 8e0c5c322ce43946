"""Day 48 · RMSNorm in two passes over a row in the cache, and SwiGLU in one over memory.

Differs from functions/gated.py in what it saves (x and one number a row, not x̂), and in how a
large row is met: the squares are summed in float32 first, and again in float64 in the rare row
where that overflows. Left out: an ε below SMALLEST_EPS, for which the reference runs.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import HIGHEST, ONE, exp32
from llm.kernels.threads import CHUNKS, share

SUMS = {"reassoc", "contract", "arcp", "nsz"}    # fastmath, but infinity and NaN keep their sense
LARGEST = np.float32(1e38)
SMALLEST_EPS = 1e-30
LOWEST_GATE = -HIGHEST


@njit(fastmath=SUMS, error_model="numpy")
def inverse_rms(row, eps):
    """1/√(mean(row²) + ε) of a row (C,)."""
    squares = np.float32(0)
    for j in range(row.size):
        squares += row[j] * row[j]
    if squares < LARGEST:
        return ONE / np.sqrt(squares / np.float32(row.size) + eps)
    wide = 0.0                                                   # (1e38)² fits in float64
    for j in range(row.size):
        wide += np.float64(row[j]) * np.float64(row[j])
    return np.float32(1 / np.sqrt(wide / row.size + eps))


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def rmsnorm_rows(x, gain, eps, out, rstd):
    """out ← x · rstd · gain; x, out (N, C); gain (C,); rstd (N,)."""
    for i in prange(x.shape[0]):
        r = inverse_rms(x[i], eps)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * r * gain[j]
        rstd[i] = r


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def rmsnorm_back_rows(dout, x, gain, rstd, dx, dgain):
    """dx ← rstd · (d − x̂ · mean(d · x̂)), d = dout · gain, dx (N, C).

    dgain (CHUNKS, C) receives the sums over CHUNKS groups of rows, as in day 38's LayerNorm.
    """
    N, C = x.shape
    for chunk in prange(CHUNKS):
        dgain[chunk] = 0
        for i in range(N * chunk // CHUNKS, N * (chunk + 1) // CHUNKS):
            r, along = rstd[i], np.float32(0)
            for j in range(C):
                normal = x[i, j] * r
                along += dout[i, j] * gain[j] * normal
                dgain[chunk, j] += dout[i, j] * normal
            along /= np.float32(C)
            for j in range(C):
                dx[i, j] = r * (dout[i, j] * gain[j] - x[i, j] * r * along)


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def swiglu_rows(gate, up, out):
    """out ← silu(gate) · up. A gate below −88, where exp32(−gate) stops growing, counts as −88."""
    for i in prange(gate.shape[0]):
        for j in range(gate.shape[1]):
            g = LOWEST_GATE if gate[i, j] < LOWEST_GATE else gate[i, j]
            out[i, j] = g / (ONE + exp32(-g)) * up[i, j]


@njit(fastmath=SUMS, parallel=True, error_model="numpy", cache=True)
def swiglu_back_rows(dout, gate, up, dgate, dup):
    """dgate ← dout · up · s(1 + g(1 − s)), dup ← dout · g·s, s = σ(g): one exponential for both."""
    for i in prange(gate.shape[0]):
        for j in range(gate.shape[1]):
            g = LOWEST_GATE if gate[i, j] < LOWEST_GATE else gate[i, j]
            s = ONE / (ONE + exp32(-g))
            dgate[i, j] = dout[i, j] * up[i, j] * (s * (ONE + g * (ONE - s)))
            dup[i, j] = dout[i, j] * (g * s)


def rmsnorm(x, gain, eps=1e-5):
    """The twin of functions.gated.rmsnorm, float32: x (..., C), gain (C,) -> (..., C)."""
    if gain.shape != x.shape[-1:] or not SMALLEST_EPS <= eps < LARGEST:
        return NotImplemented                                 # the reference says what is wrong
    out, rows = np.empty(x.shape, np.float32), x.reshape(-1, x.shape[-1])
    rstd = np.empty(len(rows), np.float32)
    share(2 * x.size)
    rmsnorm_rows(rows, gain, np.float32(eps), out.reshape(rows.shape), rstd)
    return out, (x, gain, rstd)


def rmsnorm_vjp(dout, x, gain, rstd):
    """dx (..., C), dgain (C,)."""
    C = x.shape[-1]
    dx, dgain = np.empty(x.shape, np.float32), np.empty((CHUNKS, C), np.float32)
    share(2 * x.size)
    rmsnorm_back_rows(dout.reshape(-1, C), x.reshape(-1, C), gain, rstd, dx.reshape(-1, C), dgain)
    return dx, dgain.sum(axis=0)


def swiglu(gate, up):
    """The twin of functions.gated.swiglu, float32: saves gate and up, as the reference does."""
    if gate.shape != up.shape:
        return NotImplemented
    out, F = np.empty(gate.shape, np.float32), gate.shape[-1]
    share(4 * gate.size)                                              # an exp each
    swiglu_rows(gate.reshape(-1, F), up.reshape(-1, F), out.reshape(-1, F))
    return out, (gate, up)


def swiglu_vjp(dout, gate, up):
    """dgate, dup (..., F) in one pass: three arrays read, two written."""
    F = gate.shape[-1]
    dgate, dup = np.empty(gate.shape, np.float32), np.empty(gate.shape, np.float32)
    share(4 * gate.size)
    swiglu_back_rows(dout.reshape(-1, F), gate.reshape(-1, F), up.reshape(-1, F),
                     dgate.reshape(-1, F), dup.reshape(-1, F))
    return dgate, dup
