"""Day 03 · Walking strided arrays: the compiled loops under the array engine.

Each visits every index of `shape` once, with one position per operand that moves by that operand's
strides. The innermost axis is a plain loop; the others advance like the digits of an odometer.
Left out: threads, and cutting big walks into cache-sized blocks (day 04 does both for matmul).

`fastmath={"reassoc", "contract"}` lets the compiler add in another order and fuse a product with a
sum, so that it can use SIMD; it keeps NaN and infinity, unlike the full `fastmath=True`. Helpers
are inlined into the four cached kernels; one without a `fastmath` of its own would take over that
of whoever calls it first.
"""

import numpy as np
from numba import njit

ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM = range(6)
OPTIONS = {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}
KERNEL = {**OPTIONS, "cache": True}


def memory_order(strides, *others):
    """Axes from the largest to the smallest step: the order in which memory is walked forwards."""
    return sorted(range(len(strides)),
                  key=lambda axis: tuple(-abs(s[axis]) for s in (strides, *others)))


@njit(**OPTIONS)
def at(position):
    """An index that cannot be negative, so Numba leaves out its test for counting from the end."""
    return np.uint64(position)


@njit(**OPTIONS)
def advance(index, shape, position, strides):
    """Move all axes but the last one step on, like an odometer; `position` follows."""
    for axis in range(shape.size - 2, -1, -1):
        index[axis] += 1
        turned = index[axis] == shape[axis]            # past the end: back to 0, carry one over
        for view in range(position.size):
            position[view] += strides[view, axis] * (1 - shape[axis] * turned)
        if not turned:
            return
        index[axis] = 0


@njit(**OPTIONS)
def operate(code, x, y):
    """x ∘ y for every code but DIVIDE, which `combine` does itself."""
    if code == ADD:
        return x + y
    if code == SUBTRACT:
        return x - y
    if code == MULTIPLY:
        return x * y
    if x != x or y != y:                      # NaN wins, as in NumPy
        return x + y
    return max(x, y) if code == MAXIMUM else min(x, y)


@njit(**KERNEL)
def copy(shape, strides, offsets, source, out):
    """out[…] = source[…]. strides (2, axes) and offsets (2,): the source's, then the out's."""
    index, position = np.zeros_like(shape), offsets.copy()
    s, t, n = strides[0, -1], strides[1, -1], shape[-1]
    for _ in range(shape[:-1].prod() if n else 0):
        p, q = position
        for i in range(n):
            out[at(q + i * t)] = source[at(p + i * s)]
        advance(index, shape, position, strides)


@njit(**KERNEL)
def combine(code, shape, strides, offsets, left, right, out):
    """out[…] = left[…] ∘ right[…], in one pass. strides (3, axes): left, right, out."""
    index, position = np.zeros_like(shape), offsets.copy()
    s, t, u, n = strides[0, -1], strides[1, -1], strides[2, -1], shape[-1]
    for _ in range(shape[:-1].prod() if n else 0):
        p, q, r = position
        if code == DIVIDE:                          # apart, because int / int is a float
            for i in range(n):
                out[at(r + i * u)] = left[at(p + i * s)] / right[at(q + i * t)]
        else:
            for i in range(n):
                out[at(r + i * u)] = operate(code, left[at(p + i * s)], right[at(q + i * t)])
        advance(index, shape, position, strides)


@njit(**KERNEL)
def reduce(code, shape, strides, offsets, source, out):
    """out[…] = out[…] ∘ source[…]: an out with stride 0 along an axis gathers that whole axis."""
    index, position = np.zeros_like(shape), offsets.copy()
    s, t, n = strides[0, -1], strides[1, -1], shape[-1]
    for _ in range(shape[:-1].prod() if n else 0):
        p, q = position
        if code == ADD and t == 0:
            out[q] += row_sum(out.dtype.type(0), source, p, s, n)
        else:
            for i in range(n):
                out[at(q + i * t)] = operate(code, out[at(q + i * t)], source[at(p + i * s)])
        advance(index, shape, position, strides)


@njit(**OPTIONS)
def row_sum(zero, source, p, s, n):
    """source[p] + source[p + s] + … (n numbers), added up in the type of `zero`."""
    if s != 1:
        return four_sums(zero, source, p, s, n)
    total = zero
    for i in range(p, p + n):                  # neighbours: the compiler makes it SIMD
        total += source[at(i)]
    return total


@njit(fastmath=False)
def four_sums(zero, source, p, s, n):
    """The same in four sums at once, so that no addition waits for the one before it.

    The order is fixed, because free to choose, the compiler may use gather instructions, which
    collect single numbers into a wide register and were slower (day 03's run).
    """
    a = b = c = d = zero
    for i in range(n // 4):
        j = p + 4 * i * s
        a += source[at(j)]
        b += source[at(j + s)]
        c += source[at(j + 2 * s)]
        d += source[at(j + 3 * s)]
    for i in range(n - n % 4, n):
        a += source[at(p + i * s)]
    return a + b + c + d


@njit(**KERNEL)
def contract(shape, strides, offsets, left, right, out):
    """out[…] += left[…] · right[…], left standing still along the last axis (stride 0).

    A product and its sum at once: the products are not stored.
    """
    index, position = np.zeros_like(shape), offsets.copy()
    t, u, n = strides[1, -1], strides[2, -1], shape[-1]
    for _ in range(shape[:-1].prod() if n else 0):
        p, q, r = position
        factor = left[at(p)]
        for i in range(n):
            out[at(r + i * u)] += factor * right[at(q + i * t)]
        advance(index, shape, position, strides)
