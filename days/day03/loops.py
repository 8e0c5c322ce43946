"""Day 03 · Sums of numbers in the cache: loops as they were before they were mended, and after.

`unsigned` and `four_sums` do what `row_sum` and `four_sums` of llm/tensors/walk.py do; each of the
others has one thing changed. Numba shows no machine code of kernels that it has cached, and
`gathers` looks into it, so these loops are compiled anew in each run.
"""

from numba import njit

from llm.tensors.walk import OPTIONS, at


@njit(**OPTIONS)
def signed(source, p, n):
    """Neighbours, but each index is tested for being negative."""
    total = 0.0
    for i in range(p, p + n):
        total += source[i]
    return total


@njit(**OPTIONS)
def unsigned(source, p, n):
    """The same with indices that cannot be negative, as in `row_sum`."""
    total = 0.0
    for i in range(p, p + n):
        total += source[at(i)]
    return total


@njit(**OPTIONS)
def one_sum(source, p, s, n):
    """Numbers with a gap in a single sum; the compiler may add in any order."""
    total = 0.0
    for i in range(n):
        total += source[at(p + i * s)]
    return total


@njit(error_model="numpy", fastmath=False)
def four_sums(source, p, s, n):
    """Numbers with a gap in four sums side by side, added in this very order."""
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


four_sums_free = njit(**OPTIONS)(four_sums.py_func)         # the same, in any order


def gathers(loop):
    """Does the compiled `loop` collect single numbers into wide registers by gather instructions?

    False before its first call, which compiles it.
    """
    return any("gather" in code for code in loop.inspect_asm().values())
