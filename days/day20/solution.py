"""Day 20 · Solutions of the exercises."""

import numpy as np

from llm.layers.init import forecast


def halve(grows, low, high, tolerance):
    """The place between low and high where grows(x) turns true, to a tolerance."""
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (low, middle) if grows(middle) else (middle, high)
    return (low + high) / 2


def critical_gain(activation, layers):
    return halve(lambda g: forecast(activation, g, layers)[1][0] > 1, .5, 4.0, 1e-4)


def measured_start(layers, x):
    found, h = [], x
    for w, f in layers:
        target = .25 if f is np.tanh else 1.0
        z = h @ w
        exponent = halve(lambda c: np.mean(f(np.exp(c) * z) ** 2) > target,      # noqa: B023
                         -40.0, 40.0, 1e-6)
        found.append(np.exp(exponent) * w)
        h = f(h @ found[-1])
    return found
