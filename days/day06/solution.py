"""Day 06 · Solutions."""

import numpy as np


def discount_and_prior(counts, below, discount, strength):
    """(max(c − D, 0) + (θ + D · distinct) · below) / (C + θ)."""
    if counts.sum() == 0:
        return below
    free = strength + discount * np.count_nonzero(counts)
    return (np.maximum(counts - discount, 0) + free * below) / (counts.sum() + strength)


def mixture_weight(one, two):
    """Bisection: the slope Σ (e^one − e^two) / mixture falls from left to right."""
    top = np.maximum(one, two)                        # the mixture only needs their ratio
    a, b = np.exp(one - top), np.exp(two - top)
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        if ((a - b) / (share * a + (1 - share) * b)).sum() > 0:
            low = share
        else:
            high = share
    return (low + high) / 2
