"""Day 03 · Three loops as they were before they were mended: what each mistake costs.

They are `row_sum` and `four_sums` of llm/tensors/walk.py with one thing changed.
"""

from numba import njit

from llm.tensors.walk import KERNEL, at


@njit(**KERNEL)
def signed(source, p, n):
    """Neighbours, but each index is tested for being negative: the compiler uses no SIMD."""
    total = 0.0
    for i in range(p, p + n):
        total += source[i]
    return total


@njit(**KERNEL)
def unsigned(source, p, n):
    """The same with indices that cannot be negative, as in `row_sum`."""
    total = 0.0
    for i in range(p, p + n):
        total += source[at(i)]
    return total


@njit(**KERNEL)
def gathered(source, p, s, n):
    """Numbers with a gap, in any order: the compiler gathers them into wide registers."""
    total = 0.0
    for i in range(n):
        total += source[at(p + i * s)]
    return total


@njit(cache=True, error_model="numpy", fastmath=False)
def one_by_one(source, p, s, n):
    """Numbers with a gap, four sums side by side and in this order, as in `four_sums`."""
    a = b = c = d = 0.0
    for i in range(n // 4):
        j = p + 4 * i * s
        a += source[at(j)]
        b += source[at(j + s)]
        c += source[at(j + 2 * s)]
        d += source[at(j + 3 * s)]
    for i in range(n - n % 4, n):
        a += source[at(p + i * s)]
    return a + b + c + d
