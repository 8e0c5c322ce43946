"""Day 54 · A linear layer that is not trained, and a product of two thin matrices beside it.

    y = x W + bias + s · (x A) B        W (Cin, Cout) frozen; A (Cin, r), B (r, Cout) trained

Forward and VJP, for NumPy; the twins are in kernels/lowrank.py. A frozen W has no gradient, so
xᵀ dy is never computed: that is a third of a linear layer's FLOPs. W may also be a function that
makes the matrix (qlora.py: from 4 bits). It is then called once forward and once backward, and the
record keeps the function and no float32 matrix.
Left out: dropout in front of A, and DoRA's length of W.
Source: Hu et al. (2021), section 4.1, eq. 3; theirs is the transpose, W + BA.
"""

import math

import numpy as np


def frozen_linear(x, weight, bias=None):
    """y = x W + bias: x (..., Cin) -> (..., Cout), saved = (weight,): x itself is not kept.

    weight: an array (Cin, Cout) or a function without arguments that returns it. 2·N·Cin·Cout
    FLOPs for N rows. Raises ValueError where the shapes do not fit.
    """
    y = product(x, matrix(weight), bias)
    return y.reshape(*x.shape[:-1], y.shape[-1]), (weight,)


def frozen_linear_vjp(dout, weight):
    """dx = dout Wᵀ, nothing for W or the bias: 2·N·Cin·Cout FLOPs where day 14 has twice that."""
    w = matrix(weight)
    return (rows_of(dout) @ w.T).reshape(*dout.shape[:-1], len(w)), None, None


def lora(x, a, b, weight, bias=None, *, scale, widths):
    """y = x W + bias + scale · (x A) B: x (..., Cin) -> (..., Cout).

    widths: how many outputs belong to each of P matrices that stand side by side in W (queries,
    keys and values); their sum is Cout. Each has an A of its own, a (Cin, P·r), and b (r, Cout)
    holds their B's side by side. Saves x, a, b, weight and x A.
    2·N·(Cin·Cout + P·r·Cin + r·Cout) FLOPs. Raises ValueError where the shapes do not fit.
    """
    w = matrix(weight)
    check_lora(x, a, b, w, widths)
    y, h = product(x, w, bias), rows_of(x) @ a                   # (N, Cout), (N, P·r)
    for low, high, part in parts(widths, len(b)):
        y[:, low:high] += scale * (h[:, part] @ b[:, low:high])
    return y.reshape(*x.shape[:-1], w.shape[1]), (x, a, b, weight, h, scale, widths)


def lora_vjp(dout, x, a, b, weight, h, scale, widths):
    """dB = s (xA)ᵀ dy, dA = xᵀ (s dy Bᵀ), dx = dy Wᵀ + (s dy Bᵀ) Aᵀ; nothing for W.

    With G = s dy Bᵀ (N, P·r): B = 0 makes G and so dA zero, while dB is not.
    """
    rows, w = rows_of(dout), matrix(weight)
    g, db = np.empty_like(h), np.empty_like(b)
    for low, high, part in parts(widths, len(b)):
        g[:, part] = scale * (rows[:, low:high] @ b[:, low:high].T)
        db[:, low:high] = scale * (h[:, part].T @ rows[:, low:high])
    dx = rows @ w.T + g @ a.T
    return dx.reshape(x.shape), rows_of(x).T @ g, db, None, None


def parts(widths, r):
    """(first output, end, columns of x A) of each matrix that stands in W."""
    low, found = 0, []
    for p, width in enumerate(widths):
        found.append((low, low + width, slice(p * r, (p + 1) * r)))
        low += width
    return found


def matrix(weight):
    """The array itself, or what the function makes."""
    return weight() if callable(weight) else weight


def rows_of(x):
    """(..., C) -> (N, C)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def product(x, w, bias):
    """x W + bias as (N, Cout), a new array; ValueError where the shapes do not fit."""
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != len(w):
        raise ValueError(f"x {x.shape} does not fit W {w.shape}: the last axis of x must equal "
                         "the first of W")
    if bias is not None and bias.shape != w.shape[1:]:
        raise ValueError(f"bias {bias.shape} does not fit W {w.shape}: wanted ({w.shape[1]},)")
    y = rows_of(x) @ w
    if bias is not None:
        y += bias
    return y


def check_lora(x, a, b, w, widths):
    """ValueError unless a is (Cin, P·r), b (r, Cout) and the P widths add up to Cout."""
    if (a.ndim != 2 or b.ndim != 2 or w.ndim != 2 or a.shape != (len(w), len(widths) * len(b))
            or b.shape[1] != w.shape[1] or sum(widths) != w.shape[1] or min(widths) < 1):
        raise ValueError(f"A {a.shape} and B {b.shape} beside W {w.shape} in parts of {widths}: "
                         "wanted A (Cin, P·r), B (r, Cout) and P widths that add up to Cout")
