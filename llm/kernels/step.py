"""Day 43 · The small parts of a token: norm, rotation, one head's attention, activations.

They work on vectors that are in the nearest cache, and are written so that the compiler sees long
loops over neighbours. Everything is float32 and in place; nothing is allocated.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from llm.kernels.elementwise import exp32

SQRT_2_PI, CUBIC = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
ONE, ZERO = np.float32(1), np.float32(0)


@intrinsic
def wide(typingctx, a):
    """float32 from a float32, or from the 16 bits (uint16) of a float16."""
    def codegen(context, builder, signature, values):
        if a == types.float32:
            return values[0]
        return builder.fpext(builder.bitcast(values[0], ir.HalfType()), ir.FloatType())
    return types.float32(a), codegen


@intrinsic
def fit(typingctx, a, like):
    """A float32 as it is where `like` is one; where it is a uint16, the nearest float16's bits."""
    def codegen(context, builder, signature, values):
        if like == types.float32:
            return values[0]
        return builder.bitcast(builder.fptrunc(values[0], ir.HalfType()), ir.IntType(16))
    return like(types.float32, like), codegen


@njit(fastmath=True, error_model="numpy", cache=True)
def normalise(x, gain, bias, eps, rms, out):
    """out ← LayerNorm (day 21) of x (C,), or RMSNorm, without the mean. bias may be empty.

    9·C FLOPs; 7·C for RMSNorm.
    """
    C = np.float32(x.size)
    mean, squares = ZERO, ZERO
    if not rms:
        for j in range(x.size):
            mean += x[j]
        mean /= C
    for j in range(x.size):
        squares += (x[j] - mean) * (x[j] - mean)
    r = ONE / np.sqrt(squares / C + eps)
    for j in range(x.size):
        out[j] = (x[j] - mean) * r * gain[j]
    for j in range(bias.size):
        out[j] += bias[j]


@njit(fastmath=True, error_model="numpy")
def turned(x, cos, sin, factor, out):
    """out ← factor · x (D,), its pairs (i, i + D/2) turned by the angles of cos, sin (D/2,).

    Without angles (size 0) only scaled.
    """
    pairs = cos.size
    for i in range(pairs):
        a, b = x[i], x[i + pairs]
        out[i] = factor * (a * cos[i] - b * sin[i])
        out[i + pairs] = factor * (a * sin[i] + b * cos[i])
    for i in range(2 * pairs, x.size):
        out[i] = factor * x[i]


@njit(fastmath=True, error_model="numpy")
def score(q, keys, n, out):
    """out[t] ← q · keys[t] for t < n; q (D,), keys flat (≥ n·D,), float32 or 16-bit.

    Eight keys at a time.
    """
    D = q.size
    for t in range(0, n - 7, 8):
        k = keys[t * D:(t + 8) * D]
        s0, s1, s2, s3, s4, s5, s6, s7 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        for d in range(D):
            s0 += q[d] * wide(k[d])
            s1 += q[d] * wide(k[d + D])
            s2 += q[d] * wide(k[d + 2 * D])
            s3 += q[d] * wide(k[d + 3 * D])
            s4 += q[d] * wide(k[d + 4 * D])
            s5 += q[d] * wide(k[d + 5 * D])
            s6 += q[d] * wide(k[d + 6 * D])
            s7 += q[d] * wide(k[d + 7 * D])
        out[t], out[t + 1], out[t + 2], out[t + 3] = s0, s1, s2, s3
        out[t + 4], out[t + 5], out[t + 6], out[t + 7] = s4, s5, s6, s7
    for t in range(n // 8 * 8, n):
        s0 = ZERO
        for d in range(D):
            s0 += q[d] * wide(keys[t * D + d])
        out[t] = s0


@njit(fastmath=True, error_model="numpy")
def weigh(w, values, n, out):
    """out (D,) += Σ_{t < n} w[t] · values[t]; values flat (≥ n·D,), float32 or 16-bit."""
    D = out.size
    for t in range(0, n - 7, 8):
        v = values[t * D:(t + 8) * D]
        w0, w1, w2, w3 = w[t], w[t + 1], w[t + 2], w[t + 3]
        w4, w5, w6, w7 = w[t + 4], w[t + 5], w[t + 6], w[t + 7]
        for d in range(D):
            out[d] += (w0 * wide(v[d]) + w1 * wide(v[d + D]) + w2 * wide(v[d + 2 * D])
                       + w3 * wide(v[d + 3 * D]) + w4 * wide(v[d + 4 * D])
                       + w5 * wide(v[d + 5 * D]) + w6 * wide(v[d + 6 * D])
                       + w7 * wide(v[d + 7 * D]))
    for t in range(n // 8 * 8, n):
        for d in range(D):
            out[d] += w[t] * wide(values[t * D + d])


@njit(fastmath=True, error_model="numpy", cache=True)
def attend(q, keys, values, key, value, n, scores, out):
    """One query meets n cached keys and the newest, `key`; out (D,) ← the average of the values.

    q is scaled already; keys, values flat, float32 or 16-bit; scores: room for n + 1. 4·(n + 1)·D
    FLOPs, and 8·n·D bytes from the cache, or half of that. The largest score is subtracted first
    (day 01), so no exponential overflows.
    """
    score(q, keys, n, scores)
    score(q, key, 1, scores[n:n + 1])
    top = scores[0]
    for t in range(n + 1):
        top = max(top, scores[t])
    total = ZERO
    for t in range(n + 1):
        scores[t] = exp32(scores[t] - top)
        total += scores[t]
    inverse = ONE / total
    for t in range(n + 1):
        scores[t] *= inverse
    for d in range(out.size):
        out[d] = ZERO
    weigh(scores, values, n, out)
    weigh(scores[n:n + 1], value, 1, out)


@njit(error_model="numpy")
def copy(x, out):
    """out, float32 or 16-bit, ← x."""
    for j in range(x.size):
        out[j] = fit(x[j], out[j])


@njit(fastmath=True, error_model="numpy")
def add(x, more):
    """x[j] += more[j] for all of `more`, which may be empty."""
    for j in range(more.size):
        x[j] += more[j]


@njit(fastmath=True, error_model="numpy", cache=True)
def gelu(x):
    """In place; day 10's formula as x · σ(2u), with one exponential (day 38)."""
    for j in range(x.size):
        a = x[j]
        u = SQRT_2_PI * (a + CUBIC * a * a * a)
        x[j] = a / (ONE + exp32(-(u + u)))


@njit(fastmath=True, error_model="numpy", cache=True)
def gate(x, by):
    """x ← silu(by) · x, silu(a) = a · σ(a)."""
    for j in range(x.size):
        x[j] *= by[j] / (ONE + exp32(-by[j]))
