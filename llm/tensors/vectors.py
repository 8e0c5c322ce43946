"""Day 02 · Vectors: dot product, norm, cosine and projection, by hand and then vectorised.

The first half works on plain Python sequences of numbers, the second on NumPy arrays, where rows
are vectors. Left out: complex numbers, and norms that survive squares beyond 1e308 (an exercise).

Source: Strang, "Introduction to Linear Algebra", chapter 1.
"""

import math

import numpy as np
from numba import njit


def dot(u, v):
    """u₁v₁ + … + u_N v_N. dot([1, 2], [3, 4]) is 11; dot([], []) is 0. 2N − 1 FLOPs.

    Raises ValueError where the lengths differ.
    """
    if len(u) != len(v):
        raise ValueError(f"dot needs two vectors of one length, got {len(u)} and {len(v)}")
    total = 0
    for x, y in zip(u, v):
        total += x * y
    return total


def norm(u):
    """The length of the arrow: √(u · u). norm([3, 4]) is 5."""
    return math.sqrt(dot(u, u))


def cosine(u, v):
    """Cosine of the angle between u and v, from −1 to 1.

    Raises ValueError where one of them is zero: it has no direction, so there is no angle.
    """
    length = norm(u) * norm(v)
    if length == 0:
        raise ValueError(f"no cosine with a zero vector: |u| = {norm(u)}, |v| = {norm(v)}")
    return dot(u, v) / length


def project(u, v):
    """The multiple of v that is nearest to u: (u·v / v·v) v. What is left of u is normal to v.

    Raises ValueError where v is zero.
    """
    square = dot(v, v)
    if square == 0:
        raise ValueError(f"cannot project on a zero vector of length {len(v)}")
    scale = dot(u, v) / square
    return [scale * x for x in v]


def unit_rows(x):
    """Each row of x (N, C) divided by its norm. Raises ValueError naming the first zero row."""
    x = x if x.dtype.kind == "f" else x.astype(np.float64)   # squares of int8 would wrap around
    largest = np.abs(x).max(axis=-1, keepdims=True)                   # (N, 1)
    if not largest.all():
        raise ValueError(f"row {int(np.argmin(largest))} of {x.shape} is zero and has no direction")
    x = x / largest                                # squares of 1e20 or 1e-23 leave float32's range
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def cosines(x, v):
    """Cosine of every row of x (N, C) with v (C,): (N,), in one matrix-vector product.

    Raises ValueError where the shapes do not fit, or a row or v is zero.
    """
    if x.ndim != 2 or v.shape != x.shape[1:]:
        raise ValueError(f"cosines needs (N, C) and (C,), got {x.shape} and {v.shape}")
    return unit_rows(x) @ unit_rows(v[None])[0]


@njit(cache=True)
def dot_in_order(u, v):
    """The loop of `dot`, compiled. Each addition waits for the one before, as written."""
    total = u.dtype.type(0)
    for i in range(u.size):
        total += u[i] * v[i]
    return total


@njit(fastmath=True, cache=True)
def dot_any_order(u, v):
    """The same loop; `fastmath` lets the compiler add in any order, so it adds many at a time."""
    total = u.dtype.type(0)
    for i in range(u.size):
        total += u[i] * v[i]
    return total
