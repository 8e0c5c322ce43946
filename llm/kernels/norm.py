"""Day 38 · LayerNorm in three passes over a row in the cache, not seven over an array in memory.

Differs from functions/norm.py in what it saves: x, which is there already, with the mean and 1/σ
of each row. The reference writes x̂ and keeps that: as many bytes, but one more array to write.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.threads import CHUNKS, share


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def layernorm_rows(x, gain, bias, eps, out, mean, rstd):
    """out ← (x − mean) · rstd · gain + bias; x, out (N, C); gain, bias (C,); mean, rstd (N,)."""
    C = x.shape[1]
    for i in prange(x.shape[0]):
        total = np.float32(0)
        for j in range(C):
            total += x[i, j]
        m = total / np.float32(C)
        squares = np.float32(0)
        for j in range(C):
            squares += (x[i, j] - m) * (x[i, j] - m)
        r = np.float32(1) / np.sqrt(squares / np.float32(C) + eps)
        for j in range(C):
            out[i, j] = (x[i, j] - m) * r * gain[j] + bias[j]
        mean[i], rstd[i] = m, r


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def layernorm_back_rows(dout, x, gain, mean, rstd, dx, dgain, dbias):
    """dx ← rstd · (d − mean(d) − x̂ · mean(d · x̂)) with d = dout · gain (day 21), dx (N, C).

    dgain, dbias (CHUNKS, C) receive the sums over CHUNKS groups of rows: no two threads add to
    one, and the order is the same on any number of threads.
    """
    N, C = x.shape
    for chunk in prange(CHUNKS):
        dgain[chunk] = 0
        dbias[chunk] = 0
        for i in range(N * chunk // CHUNKS, N * (chunk + 1) // CHUNKS):
            m, r = mean[i], rstd[i]
            along_one, along_x = np.float32(0), np.float32(0)
            for j in range(C):
                normal = (x[i, j] - m) * r
                d = dout[i, j] * gain[j]
                along_one += d
                along_x += d * normal
                dgain[chunk, j] += dout[i, j] * normal
                dbias[chunk, j] += dout[i, j]
            along_one /= np.float32(C)
            along_x /= np.float32(C)
            for j in range(C):
                normal = (x[i, j] - m) * r
                dx[i, j] = r * (dout[i, j] * gain[j] - along_one - normal * along_x)


def layernorm(x, gain, bias, eps=1e-5):
    """The twin of functions.norm.layernorm, float32: x (..., C), gain, bias (C,) -> (..., C)."""
    if not gain.shape == bias.shape == x.shape[-1:]:
        return NotImplemented                                 # the reference says what is wrong
    out, rows = np.empty(x.shape, np.float32), x.reshape(-1, x.shape[-1])
    mean, rstd = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    share(2 * x.size)
    layernorm_rows(rows, gain, bias, np.float32(eps), out.reshape(rows.shape), mean, rstd)
    if not (rstd > 0).all():            # a sum of squares left float32's range
        return NotImplemented
    return out, (x, gain, mean, rstd)


def layernorm_vjp(dout, x, gain, mean, rstd):
    """dx (..., C), dgain (C,), dbias (C,)."""
    C = x.shape[-1]
    dx, dgain, dbias = (np.empty(shape, np.float32) for shape in (x.shape, (CHUNKS, C),
                                                                  (CHUNKS, C)))
    share(2 * x.size)
    layernorm_back_rows(dout.reshape(-1, C), x.reshape(-1, C), gain, mean, rstd,
                        dx.reshape(-1, C), dgain, dbias)
    return dx, dgain.sum(axis=0), dbias.sum(axis=0)
