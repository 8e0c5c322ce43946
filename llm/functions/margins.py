"""Day 56 · The loss of a preference: −log σ of the margin by which the preferred answer leads.

A pair as on day 14. Left out: ties, and labels that are themselves probabilities.
"""

import numpy as np


def bradley_terry(margin):
    """Mean of −log σ(m) = softplus(−m) in nats over all margins m = r(chosen) − r(rejected).

    margin: (...) floating, at least one. Returns a scalar of the same type, and what the backward
    needs. No margin is clamped: σ(m) would round to 0 and its log to −∞, while max(−m, 0) +
    log(1 + e^−|m|) takes the exponential of nothing positive.
    Raises ValueError where there is no margin.
    Source: Bradley & Terry (1952); Ouyang et al. (2022), equation 1.
    """
    margin = np.asarray(margin)
    if not margin.size:
        raise ValueError(f"margins of shape {margin.shape}: the mean needs at least one pair")
    small = np.exp(-np.abs(margin))                                 # e^−|m|, never above 1
    losses = np.maximum(-margin, 0) + np.log1p(small)
    return losses.mean(dtype=margin.dtype), (margin, small)


def bradley_terry_vjp(dout, margin, small):
    """(σ(m) − 1) / N of each margin: −σ(−m), which is small where the order is right already."""
    wrong = np.where(margin >= 0, small, 1) / (1 + small)           # σ(−m)
    return (-wrong * np.asarray(dout / margin.size, margin.dtype),)
