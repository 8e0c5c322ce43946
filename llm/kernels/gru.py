"""Day 22 · The GRU in Numba: a thread takes a few texts and reads them from end to end.

Differs from functions/gru.py in the order of the loops. The reference takes one token of all texts
at a time, and a dozen NumPy calls for it. Here the texts are shared out in groups of ROWS, and a
group stays with its thread for all T tokens, since texts never meet. float32 and the reset after
the product; anything else is left to the reference (train/fast_gru.py).
"""

import numpy as np
from numba import njit, prange

ROWS = 4                                           # texts that share one reading of wh
F = np.float32
FAST = {"fastmath": True, "error_model": "numpy"}


@njit(**FAST)
def tanh32(x):
    """tanh in plain arithmetic, which the compiler turns into vectors; within 3e-7.

    The fraction is Lambert's 1 + x²/(3 + x²/(5 + …)) cut after 13, at x/4; then twice
    tanh 2y = 2 tanh y / (1 + tanh² y). Beyond ±10 the result is ±1 to the last bit.
    """
    y = min(max(x, F(-10)), F(10)) * F(.25)
    s = y * y
    y *= F(135135) + s * (F(17325) + s * (F(378) + s))
    y /= F(135135) + s * (F(62370) + s * (F(3150) + s * F(28)))
    y = F(2) * y / (F(1) + y * y)
    return F(2) * y / (F(1) + y * y)


@njit(**FAST)
def sigmoid32(x):
    """σ(x) = ½ + ½ tanh(x/2)."""
    return F(.5) + F(.5) * tanh32(F(.5) * x)


@njit(parallel=True, cache=True, **FAST)
def gru_forward(a, h0, wh, bh, r, u, n, q, out):
    """a (B, T, 3C) = x W + b; fills r, u, n, q, out (B, T, C)."""
    B, T, C = out.shape
    for group in prange((B + ROWS - 1) // ROWS):
        first, last = group * ROWS, min(B, group * ROWS + ROWS)
        m = np.empty((ROWS, 3 * C), F)
        h = h0[first:last].copy()
        for t in range(T):
            m[:] = F(0)
            for k in range(C):
                for i in range(last - first):
                    hk = h[i, k]
                    for j in range(3 * C):
                        m[i, j] += hk * wh[k, j]
            for i in range(last - first):
                row = first + i
                for j in range(C):
                    rj = sigmoid32(a[row, t, j] + m[i, j])
                    uj = sigmoid32(a[row, t, C + j] + m[i, C + j])
                    qj = m[i, 2 * C + j] + bh[j]
                    nj = tanh32(a[row, t, 2 * C + j] + rj * qj)
                    r[row, t, j], u[row, t, j], n[row, t, j], q[row, t, j] = rj, uj, nj, qj
                    h[i, j] = nj + uj * (h[i, j] - nj)
                    out[row, t, j] = h[i, j]


@njit(parallel=True, cache=True, **FAST)
def gru_backward(dout, before, wh, r, u, n, q, da, dm, dh):
    """Fills da, dm (B, T, 3C), the gradients before σ, σ, tanh and at h Wh; and dh (B, C)."""
    B, T, C = before.shape
    for row in prange(B):
        g = np.zeros(C, F)
        for t in range(T - 1, -1, -1):
            for j in range(C):
                rj, uj, nj = r[row, t, j], u[row, t, j], n[row, t, j]
                gj = g[j] + dout[row, t, j]
                dn = gj * (F(1) - uj) * (F(1) - nj * nj)
                du = gj * (before[row, t, j] - nj) * uj * (F(1) - uj)
                dr = dn * q[row, t, j] * rj * (F(1) - rj)
                da[row, t, j], da[row, t, C + j], da[row, t, 2 * C + j] = dr, du, dn
                dm[row, t, j], dm[row, t, C + j], dm[row, t, 2 * C + j] = dr, du, dn * rj
                g[j] = gj * uj
            for k in range(C):
                back = F(0)
                for j in range(3 * C):
                    back += dm[row, t, j] * wh[k, j]
                g[k] += back
        dh[row] = g


def forward(x, h0, w, wh, b, bh):
    """r, u, n, q, out, each (B, T, C), of float32 arrays of the shapes of functions.gru."""
    (B, T, cin), C = x.shape, h0.shape[1]
    a = (x.reshape(B * T, cin) @ w + b).reshape(B, T, 3 * C)
    parts = [np.empty((B, T, C), F) for _ in range(5)]
    gru_forward(a, *map(np.ascontiguousarray, (h0, wh, bh)), *parts)
    return parts


def backward(dout, before, wh, r, u, n, q):
    """da, dm (B, T, 3C) and dh (B, C) before the first token."""
    B, T, C = before.shape
    da, dm, dh = np.empty((B, T, 3 * C), F), np.empty((B, T, 3 * C), F), np.empty((B, C), F)
    gru_backward(*map(np.ascontiguousarray, (dout, before, wh)), r, u, n, q, da, dm, dh)
    return da, dm, dh
