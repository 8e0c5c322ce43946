"""Day 44 · A product of two quantised matrices, in integers: what the scales and zeros become.

With x ≈ a·(p − u) and w ≈ b·(q − z), both a scale and a zero, a sum over k is

    Σ x·w ≈ a·b·Σ (p − u)(q − z) = a·b·(Σ p·q − z·Σ p − u·Σ q + K·u·z)

Only Σ p·q needs the matrices: Σ p is one number for each row of x, Σ q one for each column of w.
With symmetric weights (z = 0) the work left for each x is a product and a constant row; with both
symmetric the product alone. This is the reference in NumPy. Left out: speed (llm/kernels/int8.py).
Source: Jacob and others (2018), section 2.3, equations 7 and 8.
"""

import numpy as np

from llm.quantize.int8 import limits

INT32 = 2**31 - 1


def most_products(x, w):
    """How many products (p − u)(q − z) surely have a sum of 32 bits.

    133,144 if both are symmetric, of 8 bits: INT32 / 127². With two zeros a difference reaches 255,
    and 33,025 are left.
    """
    spans = (limits(a.bits, a.symmetric) for a in (x, w))
    largest = [high if a.symmetric else high - low for a, (low, high) in zip((x, w), spans)]
    return INT32 // (largest[0] * largest[1])


def product(x, w):
    """x (n, K) and w (K, N), both Quantised -> floats (n, N).

    x: one scale for all, or axis=1, one for each row. w: one for all, or axis=0, one for each
    column. With groups, the same ones in both, each group's sum is multiplied by its own scales.
    Raises ValueError where shapes, axes or groups do not fit, and where sums could overflow.
    """
    K = x.shape[1]
    if w.shape[0] != K:
        raise ValueError(f"x {x.shape} times w {w.shape}: {K} inputs for {w.shape[0]}")
    if x.axis == 0 or w.axis == 1:
        raise ValueError(f"scales along axis {x.axis} of x and {w.axis} of w cannot be taken out "
                         "of a sum over k: x wants axis=1 or None, w axis=0 or None")
    size = x.group or K
    if size != (w.group or K):
        raise ValueError(f"groups of {x.group} in x {x.shape} and {w.group} in w {w.shape}: a sum "
                         "of integers needs one scale on either side")
    if min(size, K) > most_products(x, w):
        raise ValueError(f"{min(size, K):,} products of {x.bits} and {w.bits} bits can overflow a "
                         "sum of 32 bits: use groups")
    y = 0
    for g, start in enumerate(range(0, K, size)):
        here = slice(start, start + size)
        p, q = x.q[:, here].astype(np.int32), w.q[here].astype(np.int32)
        u, z = x.zero[:, g:g + 1].astype(np.int32), w.zero[g:g + 1].astype(np.int32)
        total = (p @ q - z * p.sum(axis=1, keepdims=True, dtype=np.int32)
                 - u * q.sum(axis=0, keepdims=True, dtype=np.int32) + len(q) * u * z)
        y = y + total * (x.scale[:, g:g + 1] * w.scale[g:g + 1])
    return y.astype(np.result_type(x.scale, w.scale))
