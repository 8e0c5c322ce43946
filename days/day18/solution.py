"""Day 18 · Solutions."""

import math

import numpy as np


def longest_step(t, beta1, beta2):
    r = beta1 * beta1 / beta2
    return ((1 - beta1) / (1 - beta1**t) * math.sqrt((1 - beta2**t) / (1 - beta2))
            * math.sqrt((1 - r**t) / (1 - r)))


def lion_update(p, g, m, rate, beta1, beta2, decay):
    direction = np.sign(beta1 * m + (1 - beta1) * g)
    p -= rate * (direction + decay * p)
    m += (1 - beta2) * (g - m)
