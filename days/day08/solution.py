"""Day 08 · Solutions: draws in constant time, and the temperature of a wanted entropy."""

import math

import numpy as np

from llm.functions.probability import entropy
from llm.generate.sample import tempered


def alias_table(p):
    """Fill each column of height 1/V with one poor id and the surplus of one rich id."""
    height = np.asarray(p, dtype=np.float64) * len(p)
    keep, other = np.ones(len(p)), np.arange(len(p))
    poor = [i for i in range(len(p)) if height[i] < 1]
    rich = [i for i in range(len(p)) if height[i] >= 1]
    while poor and rich:
        i, j = poor.pop(), rich[-1]
        keep[i], other[i] = height[i], j
        height[j] -= 1 - height[i]
        if height[j] < 1:
            poor.append(rich.pop())
    return keep, other  # what is left over on either side is full, but for rounding


def temperature_for(logits, bits):
    """Bisect on log T: entropy rises with T, so there is one answer."""
    low, high = math.log(1e-6), math.log(1e6)
    for _ in range(200):
        middle = (low + high) / 2
        if entropy(tempered(logits, math.exp(middle))) / math.log(2) < bits:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
