"""Day 56 · Best of n: draw n answers, keep the one with the highest reward; and how far that goes.

Over a finite set of answers all of it is exact, for any n: nothing is drawn here. Of equal rewards
the one that was drawn first is kept, so each as often as its own probability says. Left out:
drawing answers from a model.
"""

import math

import numpy as np


def best_of_n(p, rewards, n):
    """The distribution of the best of n: p (K,) and rewards (K,) -> q (K,), float64.

    F(r) is the share of draws with a reward of at most r. The best of n is at most r if all n are,
    so q of all answers with reward r is F(r)ⁿ − F(below r)ⁿ; among them q is as p.
    Raises ValueError if p is no distribution, shapes differ, a reward is NaN, or n < 1.
    """
    p, rewards = np.asarray(p, np.float64), np.asarray(rewards)
    if p.ndim != 1 or p.shape != rewards.shape:
        raise ValueError(f"p {p.shape} and rewards {rewards.shape} must both be (K,)")
    if not abs(p.sum() - 1) < 1e-6 or (p < 0).any():
        raise ValueError(f"p must be at least 0 and sum to 1, not {p.sum():.6g}")
    if np.isnan(rewards).any() or n < 1:
        raise ValueError(f"rewards must be numbers, and n = {n} at least 1")
    _, group = np.unique(rewards, return_inverse=True)             # 0 for the lowest reward, …
    share = np.bincount(group, p)                                  # (G,)
    F = np.minimum(np.cumsum(share), 1)
    F[-1] = 1
    mass = np.diff(F ** n, prepend=0)
    return p * (mass / np.where(share > 0, share, 1))[group]


def kl(q, p):
    """KL(q‖p) = Σ q ln(q/p) in nats; terms with q = 0 are 0."""
    at = q > 0
    return float(np.sum(q[at] * np.log(q[at] / p[at])))


def kl_without_ties(n):
    """ln n − (n − 1)/n: KL of the best of n where no two draws have the same reward.

    With ties it is an upper bound. Source: Beirami and others (2025), section 3.
    """
    return math.log(n) - (n - 1) / n
