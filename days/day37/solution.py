"""Day 37 · Solutions of the exercises."""

import math

import numpy as np

from llm.train.halves import BF16, rounded


def encode8(value):
    """As `encode`, with another top."""
    sign = 0x80 if math.copysign(1, value) < 0 else 0
    if math.isnan(value):
        return sign | 0x7F
    if value == 0:
        return sign
    size = min(abs(value), 448.0)
    exponent = max(math.frexp(size)[1] - 1, -6)
    return sign | ((exponent + 6 << 3) + round(math.ldexp(size, 3 - exponent)))


def two_halves(w):
    """The difference of w and its nearest bfloat16 is exact in float32."""
    high = rounded(w, BF16)
    return high, rounded(w - high, BF16)


def compensated_sum(x, format):
    """Kahan's sum; every operation rounds."""
    total = lost = np.zeros(1, np.float32)
    for term in x:
        term = rounded(term - lost, format)
        larger = rounded(total + term, format)
        lost = rounded(rounded(larger - total, format) - term, format)
        total = larger
    return float(total[0])
