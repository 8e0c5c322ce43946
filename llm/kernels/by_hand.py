"""Day 39 · The functions of models/by_hand/plain.py, compiled: each one pass, no memory of its own.

They use one thread and let go of Python's lock (nogil), so that several workers can run them at
the same time, each on its own rows. Sums over rows need no partial results then. Shapes, names and
meaning are those of plain.py, whose docstrings say more; only the order of additions differs.
Attention's are in by_hand_attention.py, a step's two ends in by_hand_ends.py. Left out: checks of
shapes and types, which models/by_hand/checks.py does once for all.
"""

import math

import numpy as np
from numba import njit

from llm.kernels.by_hand_attention import (  # noqa: F401 - this module is the whole table
    softmax,
    softmax_back,
    turn,
    turn_back,
)
from llm.kernels.by_hand_ends import (  # noqa: F401
    adamw,
    add_squares,
    cross_entropy,
    embed,
    embed_back,
)
from llm.kernels.elementwise import ONE, exp32

SQRT_2_PI, CUBIC = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
ZERO, THREE = np.float32(0), np.float32(3)
FAR = np.float32(30)             # beyond, the sigmoid is 0 or 1 exactly, and x² may overflow


def matmul(a, b, out):
    """out ← a b, by NumPy's BLAS, which also lets go of the lock."""
    np.matmul(a, b, out=out)


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def norm(x, gain, bias, eps, out, mean, rstd):
    """out ← LayerNorm(x) of each row."""
    N, C = x.shape
    for i in range(N):
        total = ZERO
        for j in range(C):
            total += x[i, j]
        m = total / np.float32(C)
        squares = ZERO
        for j in range(C):
            squares += (x[i, j] - m) * (x[i, j] - m)
        r = ONE / np.sqrt(squares / np.float32(C) + np.float32(eps))
        for j in range(C):
            out[i, j] = (x[i, j] - m) * r * gain[j] + bias[j]
        mean[i], rstd[i] = m, r


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def add_norm(x, b, branch, gain, bias, eps, out, mean, rstd):
    """branch ← x + branch + b; out ← LayerNorm(branch). A row stays in the nearest cache."""
    N, C = x.shape
    for i in range(N):
        total = ZERO
        for j in range(C):
            branch[i, j] += x[i, j] + b[j]
            total += branch[i, j]
        m = total / np.float32(C)
        squares = ZERO
        for j in range(C):
            squares += (branch[i, j] - m) * (branch[i, j] - m)
        r = ONE / np.sqrt(squares / np.float32(C) + np.float32(eps))
        for j in range(C):
            out[i, j] = (branch[i, j] - m) * r * gain[j] + bias[j]
        mean[i], rstd[i] = m, r


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def norm_back(dout, gain, bias, mean, rstd, x, dx, dgain, dbias, dsum):
    """dx += the gradient; x ← LayerNorm(x); dgain, dbias, dsum ← sums over rows."""
    N, C = x.shape
    dgain[:] = 0
    dbias[:] = 0
    dsum[:] = 0
    for i in range(N):
        m, r = mean[i], rstd[i]
        along_one, along_x = ZERO, ZERO
        for j in range(C):
            normal = (x[i, j] - m) * r
            d = dout[i, j] * gain[j]
            along_one += d
            along_x += d * normal
            dgain[j] += dout[i, j] * normal
            dbias[j] += dout[i, j]
        along_one /= np.float32(C)
        along_x /= np.float32(C)
        for j in range(C):
            normal = (x[i, j] - m) * r
            dx[i, j] += r * (dout[i, j] * gain[j] - along_one - normal * along_x)
            x[i, j] = normal * gain[j] + bias[j]
            dsum[j] += dx[i, j]


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def gelu(x, b, out):
    """out ← a σ(2u), a = x + b: day 38's form, one exponential."""
    N, C = x.shape
    for i in range(N):
        for j in range(C):
            whole = x[i, j] + b[j]
            a = min(max(whole, -FAR), FAR)
            u = SQRT_2_PI * (a + CUBIC * a * a * a)
            out[i, j] = max(whole, -FAR) / (ONE + exp32(-(u + u)))


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def gelu_back(b, x, dout, db):
    """dout ← the gradient; x ← GELU(x + b), of the same exponential; db ← sums over rows."""
    N, C = x.shape
    db[:] = 0
    for i in range(N):
        for j in range(C):
            whole = x[i, j] + b[j]
            a = min(max(whole, -FAR), FAR)
            u = SQRT_2_PI * (a + CUBIC * a * a * a)
            s = ONE / (ONE + exp32(-(u + u)))
            slope = (SQRT_2_PI + SQRT_2_PI) * (ONE + THREE * CUBIC * a * a)
            d = dout[i, j] * s * (ONE + a * (ONE - s) * slope)
            x[i, j] = max(whole, -FAR) * s
            dout[i, j] = d
            db[j] += d
