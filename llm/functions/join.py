"""Day 55 · Rows put in front of every sequence of a batch, and taken away again.

A trained prompt or prefix is P rows that all B sequences share. Joined, they are rows like any
other, so attention, norms and their fast kernels need no edit. Left out: rows that differ from
sequence to sequence.
"""

import numpy as np


def join(first, x):
    """first (P, w) in front of x (B, T, W), w ≤ W -> (B, P + T, W), saved.

    The W − w channels that `first` lacks are 0, and they are the leading ones: keys and values
    without queries. Copies B·(P + T)·W numbers. Raises ValueError where the shapes do not fit.
    """
    if first.ndim != 2 or x.ndim != 3 or first.shape[1] > x.shape[2]:
        raise ValueError(f"rows {first.shape} do not fit in front of x {x.shape}: wanted (P, w) "
                         "and (B, T, W) with w ≤ W")
    (P, w), (B, T, W) = first.shape, x.shape
    out = np.zeros((B, P + T, W), x.dtype)
    out[:, :P, W - w:] = first
    out[:, P:] = x
    return out, (P, w)


def join_vjp(dout, P, w):
    """All sequences share the rows, so their gradients add up: dfirst (P, w), dx (B, T, W)."""
    return dout[:, :P, dout.shape[2] - w:].sum(axis=0), dout[:, P:]


def leave(x, P):
    """x (B, P + T, W) without its first P rows -> (B, T, W), saved: the way out again.

    Raises ValueError where nothing would be left.
    """
    if x.ndim != 3 or not 0 <= P < x.shape[1]:
        raise ValueError(f"{P} rows cannot be left out of {x.shape}: wanted (B, P + T, W), T ≥ 1")
    return np.ascontiguousarray(x[:, P:]), (P,)


def leave_vjp(dout, P):
    """What was left out has no gradient: dx is 0 in front of dout."""
    B, T, W = dout.shape
    dx = np.zeros((B, P + T, W), dout.dtype)
    dx[:, P:] = dout
    return (dx,)
