"""Day 19 · Solutions."""

import math


def inverse_sqrt(step, peak, warmup):
    return peak * min(step / warmup, math.sqrt(warmup / step))


def momentum_floor(rate, curvature, noise, momentum):
    # a = E[x²], b = E[xv], c = E[v²]; once they stay the same, x' = x − ηv' gives b = −ηc/2,
    # E[x·v'] = μb + λa = ηc/2, and v' = μv + λx + ξ gives c = μ²c + 2μλb + λ²a + s².
    c = noise / ((1 - momentum) * (1 + momentum - rate * curvature / 2))
    return rate * c * (1 + momentum) / (2 * curvature)
