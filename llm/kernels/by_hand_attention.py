"""Day 39 · What attention by hand does besides its products: biases and angles, softmax and back.

The products are the BLAS's, one for each head: at a head size of 32 it is as fast there as in the
large ones, so that scoring the future and throwing it away still costs less than day 38's tiles,
which do not visit it. For long texts it is the other way round. Left out: those (day 50).
"""

import numpy as np
from numba import njit

from llm.kernels.elementwise import ONE, exp32

ZERO, HUGE = np.float32(0), np.float32(1e30)


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def turn(qkv, b, cos, sin):
    """qkv (N, 3C) += b (3C,); queries and keys are turned by cos, sin (T, D/2), if T > 0."""
    N, wide = qkv.shape
    T, half = cos.shape
    for i in range(N):
        for j in range(wide):
            qkv[i, j] += b[j]
        if T:
            turn_row(qkv[i], cos[i % T], sin[i % T], half, wide // 3 // half)


@njit(fastmath=True, error_model="numpy", nogil=True)
def turn_row(row, cos, sin, half, heads):
    """Turn one token's row: `heads` heads of queries and keys, each of 2 · half channels."""
    for h in range(heads):
        low = row[2 * h * half:(2 * h + 1) * half]
        high = row[(2 * h + 1) * half:(2 * h + 2) * half]
        for j in range(half):
            a, b = low[j], high[j]
            low[j] = a * cos[j] - b * sin[j]
            high[j] = a * sin[j] + b * cos[j]


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def turn_back(dqkv, cos, sin, db):
    """dqkv (N, 3C) is turned by the opposite angles; db (3C,) ← sums over rows."""
    N, wide = dqkv.shape
    T, half = cos.shape
    db[:] = 0
    for i in range(N):
        if T:
            turn_row_back(dqkv[i], cos[i % T], sin[i % T], half, wide // 3 // half)
        for j in range(wide):
            db[j] += dqkv[i, j]


@njit(fastmath=True, error_model="numpy", nogil=True)
def turn_row_back(row, cos, sin, half, heads):
    """`turn_row` by the opposite angles: with −sin."""
    for h in range(heads):
        low = row[2 * h * half:(2 * h + 1) * half]
        high = row[(2 * h + 1) * half:(2 * h + 2) * half]
        for j in range(half):
            a, b = low[j], high[j]
            low[j] = a * cos[j] + b * sin[j]
            high[j] = b * cos[j] - a * sin[j]


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def softmax(scores, factor):
    """Row t: softmax of factor · scores over keys 0 … t, and 0 for the future.

    Each loop runs over the whole row with a choice in it, which the compiler turns into whole
    registers; a loop to t would leave a rest to be done singly. (With the shorter registers of
    AVX2 the loop to t is the faster one.)
    """
    B, H, T, _ = scores.shape
    rows, factor = scores.reshape(B * H * T, T), np.float32(factor)
    for r in range(B * H * T):
        s, t = rows[r], r % T
        top = s[0]
        for j in range(T):
            seen = s[j] if j <= t else -HUGE
            top = seen if seen > top else top
        total = ZERO
        for j in range(T):
            e = exp32(factor * (s[j] - top)) if j <= t else ZERO
            s[j] = e
            total += e
        inverse = ONE / total
        for j in range(T):
            s[j] *= inverse


@njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def softmax_back(weights, factor, dweights):
    """dweights ← factor · w ⊙ (dw − Σ w ⊙ dw), which is 0 in the future, where w is."""
    B, H, T, _ = weights.shape
    rows, drows = weights.reshape(B * H * T, T), dweights.reshape(B * H * T, T)
    factor = np.float32(factor)
    for r in range(B * H * T):
        w, d = rows[r], drows[r]
        mean = ZERO
        for j in range(T):
            mean += w[j] * d[j]
        for j in range(T):
            d[j] = factor * w[j] * (d[j] - mean)
