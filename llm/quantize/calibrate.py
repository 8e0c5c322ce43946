"""Day 44 · Where a range should end: at the extremes, at a percentile, or where the error is least.

A scale that reaches the largest number spends its 255 steps on it. Cutting off, *clipping*, a few
large ones makes the step finer for all others. What `quantize` wants is a function
(rows (…, n), bits, symmetric) -> lowest, highest, two (…). `min_max` is in int8.py.
Left out: choosing ranges by the model's loss, and learning them.
Source: Wu and others (2020), section 3, on calibration; Nagel and others (2021), section 3.1.
"""

import numpy as np

from llm.quantize.int8 import grid, limits, min_max

FRACTIONS = np.linspace(0.2, 1, 41)


def percentile(share):
    """Cut off all but the middle `share` of the numbers: percentile(0.999) clips one in 1,000.

    Symmetric: of the sizes |x|. Affine: half of what is cut off goes at each end. Where nothing
    but zeros would be left, nothing is cut off. Raises ValueError unless 0 < share ≤ 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share}: wanted 0 < share ≤ 1, such as 0.999")

    def ends(rows, bits=8, symmetric=True):
        if symmetric:
            high = np.quantile(np.abs(rows), share, axis=-1).astype(rows.dtype)
            low = -high
        else:
            low, high = np.quantile(rows, [(1 - share) / 2, (1 + share) / 2],
                                    axis=-1).astype(rows.dtype)
        least, most = min_max(rows)
        empty = (low == 0) & (high == 0)
        return np.where(empty, least, low), np.where(empty, most, high)
    return ends


def fixed(low, high):
    """The function that always answers `low`, `high`: a range measured once on other data.

    Activations are calibrated so: their range is measured on a text and then kept.
    """
    def ends(rows, bits=8, symmetric=True):
        return tuple(np.full(rows.shape[:-1], end, rows.dtype) for end in (low, high))
    return ends


def mse(rows, bits=8, symmetric=True):
    """The fraction of the whole range, of those in FRACTIONS, with the least Σ(x − x̂)²."""
    least, most = min_max(rows)
    low, high, best = least.copy(), most.copy(), np.full(least.shape, np.inf)
    for fraction in FRACTIONS:
        error = errors(rows, fraction * least, fraction * most, bits, symmetric)
        better = error <= best                                # of equals, the widest range
        best = np.where(better, error, best)
        low = np.where(better, fraction * least, low).astype(rows.dtype)
        high = np.where(better, fraction * most, high).astype(rows.dtype)
    return low, high


def errors(rows, low, high, bits, symmetric):
    """Σ(x − x̂)² of each row (…, n) on the grid of its range -> (…)."""
    scale, zero = grid(low.astype(rows.dtype), high.astype(rows.dtype), bits, symmetric)
    scale, zero = scale[..., None], zero[..., None].astype(rows.dtype)
    q = np.clip(np.rint(rows / scale) + zero, *limits(bits, symmetric))
    return ((rows - scale * (q - zero)).astype(np.float64) ** 2).sum(axis=-1)
