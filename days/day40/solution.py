"""Day 40 · Solutions of the exercises."""

import math


def bisect(too_low, low, high):
    """The place in (low, high), in the logarithm, where too_low(x) turns false."""
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return middle


def cheapest(law, target, per_parameter=6.0):
    if target <= law.E:
        raise ValueError(f"a loss of {target} is not above the floor {law.E}")
    flops = bisect(lambda F: law.loss(*law.best(F, per_parameter)) > target, 1.0, 1e60)
    return flops, *law.best(flops, per_parameter)


def cheapest_to_serve(law, target, served):
    smallest = (law.A / (target - law.E)) ** (1 / law.alpha)      # reaches it with endless data

    def tokens(N):
        return (law.B / (target - law.E - law.A / N ** law.alpha)) ** (1 / law.beta)

    def falls(N, step=1 + 1e-7):                                  # does the cost fall as N grows?
        cost = lambda n: 6 * n * tokens(n) + 2 * n * served
        return cost(N * step) < cost(N)

    N = bisect(falls, smallest * (1 + 1e-9), smallest * 1e6)
    return N, tokens(N)
