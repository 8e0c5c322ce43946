"""Day 14 · Sums over many rows that keep their digits.

NumPy adds along the first axis one row after another, in the array's own type. A float32 total
that has grown to 2²⁴ no longer notices a 1, and long before that the last digits go. Here such
sums are made in float64 and rounded once, at the end. Sums along the last axis need no help: NumPy
adds those in pairs of pairs. Left out: exact summation.
"""

import numpy as np


def total(x, axis=None, keepdims=False):
    """Σ x over `axis` (one, a tuple, or None for all), in x's dtype, added up in float64.

    x of any shape; integers and float64 are added as they are.
    Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 4.2.

    >>> ones = np.ones((2**24 + 8, 2), np.float32)
    >>> float(ones.sum(axis=0)[0]), float(total(ones, axis=0)[0])
    (16777216.0, 16777224.0)
    """
    wide = np.float64 if x.dtype in (np.float16, np.float32) else None
    return np.asarray(x.sum(axis=axis, dtype=wide, keepdims=keepdims), x.dtype)
