"""Day 38 · Elementwise kernels: exp in plain arithmetic, sums, dropout.

`np.exp` and `np.tanh` are calls into a library, one number at a time. An exponential written as a
polynomial is arithmetic, which the compiler turns into instructions on 8 or 16 numbers at once.
"""

import math

import numpy as np
from numba import njit, prange

from llm.kernels.threads import WORTH, share

LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)                       # ln 2 in two parts: n · high is exact
LN2_LOW = np.float32(math.log(2) - 0.693359375)
C7, C6, C5, C4, C3 = (np.float32(1 / math.factorial(n)) for n in (7, 6, 5, 4, 3))
ONE, HALF = np.float32(1), np.float32(0.5)
LOWEST, HIGHEST = np.float32(-87), np.float32(88)        # −126 ≤ n ≤ 127: 2ⁿ is a normal float32


@njit(fastmath=True, error_model="numpy", inline="always")
def exp32(x):
    """e^x in float32: x = n ln 2 + r with |r| ≤ ½ ln 2, so e^x = 2ⁿ e^r.

    e^r is Taylor's polynomial to r⁷ (error below 1e-8), and 2ⁿ is made by writing n + 127 into
    the exponent bits. Below −87 the result is 1.6e-38 and not 0, above 88 it is 1.7e38 and not ∞:
    no kernel here can tell the difference.
    """
    x = min(max(x, LOWEST), HIGHEST)
    n = np.floor(x * LOG2_E + HALF)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = ONE + r * (ONE + r * (HALF + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))))
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def add_rows(a, b, out):
    """out ← a + b; out may be a."""
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] + b[i, j]


@njit(parallel=True, cache=True)
def keep_rows(x, kept, factor, out):
    """out ← x · factor where kept, else 0."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * factor if kept[i, j] else np.float32(0)


def add(a, b):
    """The twin of rules.add for two arrays of one shape, float32; else it steps aside."""
    if a.shape != b.shape or a.size < WORTH:
        return NotImplemented
    share(a.size)
    out = np.empty(a.shape, np.float32)
    add_rows(a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]),
             out.reshape(-1, a.shape[-1]))
    return out, ()


def add_vjp(dout):
    """A sum passes its gradient to both, as it is."""
    return dout, dout


def add_into(array, g):
    """The twin of grad.walk.add_into."""
    if array.size < WORTH:
        return NotImplemented
    share(array.size)
    rows = array.reshape(-1, array.shape[-1])
    add_rows(rows, g.reshape(rows.shape), rows)


def dropout(x, kept, rate):
    """The twin of functions.dropout.dropout, float32; kept: booleans of x's shape."""
    if kept.shape != x.shape:
        return NotImplemented                                 # the reference says what is wrong
    out, C = np.empty(x.shape, np.float32), x.shape[-1]
    share(x.size)
    keep_rows(x.reshape(-1, C), kept.reshape(-1, C), np.float32(1 / (1 - rate)),
              out.reshape(-1, C))
    return out, (kept, rate)


def dropout_vjp(dout, kept, rate):
    return dropout(dout, kept, rate)[0], None
