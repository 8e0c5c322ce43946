"""Day 13 · A formula of any number of parameters, and the seconds that its gradient takes."""

import time

import numpy as np

from llm.grad import scalar
from llm.models import vowels


def small_network(rng, hidden):
    """The loss of a network of 4 inputs and `hidden` units, as a function of its parameters."""
    x = rng.standard_normal(4).tolist()
    theta = rng.standard_normal(hidden * 6 + 1).tolist()
    return lambda t: vowels.loss(vowels.mlp(t, x, hidden), 1), theta


def time_ratio(f, theta, repeats):
    """Seconds of the tape's gradient over those of f on floats, each the fastest of `repeats`.

    The calls are interleaved, and the fastest is the one that nothing else disturbed.
    """
    seconds = []
    for _ in range(repeats):
        row = []
        for call in (f, lambda t: scalar.gradient(f, t)):
            started = time.perf_counter()
            call(theta)
            row.append(time.perf_counter() - started)
        seconds.append(row)
    plain, reverse = np.min(seconds, axis=0)
    return float(reverse / plain)
