"""Day 63 · Exercises to build; `python -m days check 63` grades them."""

import itertools
import math

import numpy as np

from days.day63 import few_seeds as stats
from days.day63 import simulate


def sign_flips(d):
    """The exact two-sided p-value of differences d (n,) by flipping their signs; no normality.

    If a variant changes nothing, each difference is as likely to be −x as x. So all 2ⁿ ways to
    choose the signs are equally likely, and p is the share of them whose |sum| is at least |Σd|
    (equal up to rounding counts). Example::

        sign_flips([1.0, 2.0, 3.0])      # 2 of 8: 0.25
    """
    raise NotImplementedError


def expected_best(losses, budget):
    """The expected lowest loss of `budget` rates drawn with repeats from these `losses` (n,).

    Source: Dodge et al. (2019), section 3.1, there for a highest accuracy. With sorted losses
    v₁ ≤ … ≤ v_n, the lowest of `budget` draws is v_i with probability
    ((n − i + 1)/n)^budget − ((n − i)/n)^budget. Example::

        expected_best([1.0, 3.0], 2)     # 1 with probability 3/4: 1.5
    """
    raise NotImplementedError


def false_discovery(p_values, level=0.05):
    """Which hypotheses Benjamini and Hochberg call real, a list of bools in the order given.

    Find the largest rank k whose p is at most level·k/m; that p and all smaller ones are real. It
    limits the expected share of false ones among those called real, not the chance of any.
    Example::

        false_discovery([0.01, 0.02, 0.03, 0.9])      # Holm keeps the first alone
    """
    raise NotImplementedError


def check_sign_flips(f):
    """By hand, by brute force, and at the floor 2/2ⁿ that no number of tests forgives."""
    assert math.isclose(f([1.0, 2.0, 3.0]), .25)
    assert math.isclose(f([1.0, -1.0]), 1)
    rng = np.random.default_rng(0)
    for n in (2, 5, 8):
        d = rng.standard_normal(n) + .4
        sums = [abs(np.dot(s, d)) for s in itertools.product((-1, 1), repeat=n)]
        expected = np.mean(np.array(sums) >= abs(d.sum()) - 1e-12)
        assert math.isclose(f(d), expected), f"n = {n}"
    assert math.isclose(f(np.full(6, .1)), 2 / 64), "all of one sign: the smallest p there is"


def check_expected_best(f):
    """By hand, at budget 1 the mean, and by drawing."""
    assert math.isclose(f([1.0, 3.0], 2), 1.5)
    rng = np.random.default_rng(1)
    losses = rng.standard_normal(6)
    assert math.isclose(f(losses, 1), losses.mean())
    for budget in (2, 5):
        drawn = rng.choice(losses, (100_000, budget)).min(axis=1).mean()
        assert abs(f(losses, budget) - drawn) < .02, f"budget {budget}"
    assert abs(f(losses, 500) - losses.min()) < 1e-6


def check_false_discovery(f):
    """Steps up past p-values that fail alone, is never stricter than Holm, and keeps its rate."""
    assert [bool(x) for x in f([.01, .02, .03, .9])] == [True, True, True, False]
    assert [bool(x) for x in f([.9, .04, .045, .049], .05)] == [False] * 4
    assert [bool(x) for x in f([.05, .049], .05)] == [True, True], "the largest k decides"
    rng, shares = np.random.default_rng(2), []
    for _ in range(400):
        d = rng.standard_normal((10, 8))
        d[5:] += 2
        p = [stats.p_value(t, 7) for t in simulate.t_values(d)]
        real = np.array(f(p), bool)
        assert real.sum() >= sum(x <= .05 for x in stats.holm(p))
        shares.append(real[:5].sum() / max(real.sum(), 1))
    assert np.mean(shares) < .05, "half are null, so at most half of 5 % is expected"
