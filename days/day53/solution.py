"""Day 53 · Solutions of the exercises."""

import numpy as np

from llm.tune.packing import fill


def equal_weights(targets, index):
    weights, flat = np.zeros(targets.size), targets.reshape(-1)
    for where in index:
        asked = where[where >= 0]
        asked = asked[flat[asked] != -100]
        weights[asked] = 1 / (len(index) * len(asked))
    return weights.reshape(targets.shape)


def fill_tightly(lengths, T):
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return fill(lengths, T, order)
