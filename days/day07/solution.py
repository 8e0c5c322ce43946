"""Day 07 · Solutions: log-sum-exp in one pass, an entropy less biased, a code."""

import math
from fractions import Fraction

import numpy as np


def streaming_logsumexp(chunks):
    """Return log Σ exp(z) of all chunks: keep the peak so far and the sum in its units."""
    peak, total = -math.inf, 0.0
    for chunk in chunks:
        higher = max(peak, float(chunk.max()))
        total = total * math.exp(peak - higher) + float(np.exp(chunk - higher).sum())
        peak = higher
    return peak + math.log(total) if total else -math.inf


def miller_madow(ids):
    """Return the plug-in entropy of ids (T,) plus (K − 1) / (2 T), in nats."""
    counts = np.unique(ids, return_counts=True)[1]
    p = counts / len(ids)
    return float(-(p * np.log(p)).sum() + (len(counts) - 1) / (2 * len(ids)))


def arithmetic_code(ids, p):
    """Return the bits of the largest dyadic interval inside the interval of the text."""
    low, width = Fraction(0), Fraction(1)
    for i in ids:
        low += width * sum(p[:i])
        width *= p[i]
    n = 0
    while True:
        k = math.ceil(low * 2**n)
        if Fraction(k + 1, 2**n) <= low + width:
            return format(k, f"0{n}b") if n else ""
        n += 1
