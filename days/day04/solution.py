"""Day 04 · Solutions of the build exercises."""

from functools import cache

import numpy as np


def blocked_matmul(a, b, block):
    """Slices may reach past the end: NumPy cuts them, so the last blocks need no special case."""
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in range(0, a.shape[0], block):
        for k in range(0, a.shape[1], block):
            for j in range(0, b.shape[1], block):
                c[i:i + block, j:j + block] += (a[i:i + block, k:k + block]
                                                @ b[k:k + block, j:j + block])
    return c


def fewest_flops(sides):
    """Split the chain at its last product; both parts are chains, and each is needed often."""
    @cache
    def between(first, last):
        """The fewest FLOPs of the matrices from sides[first] to sides[last]."""
        return min((between(first, at) + between(at, last)
                    + 2 * sides[first] * sides[at] * sides[last]
                    for at in range(first + 1, last)), default=0)

    return between(0, len(sides) - 1)
