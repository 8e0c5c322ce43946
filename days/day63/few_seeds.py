"""Day 63 · What a handful of seeds can tell: paired t-test, Holm's correction, power, bootstrap.

Everything follows from one picture: n differences that mean nothing point in a random direction of
n-dimensional space. Left out: tests for other spreads in the two groups (Welch), and Bayesian ones.
"""

import functools
import math

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)     # exact to the last digits for these curves


def p_value(t, freedom):
    """How often chance alone gives a |t| at least as large: two-sided, in [0, 1].

    The share of directions of freedom + 1 dimensions that lie at most an angle φ from an axis,
    cot φ = |t|/√freedom: 2 ∫₀^φ sin^(freedom−1) / ∫₀^π sin^(freedom−1). Source: Student (1908);
    the geometry is Fisher's (1915). Raises ValueError for freedom < 1.

    >>> round(p_value(2.776445, 4), 6)
    0.05
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom: a spread needs at least two numbers")
    if math.isnan(t):
        return 1.0
    angle = math.atan2(math.sqrt(freedom), abs(t))                       # φ, at most π/2
    low = math.asin(math.sin(angle) * 1e-18 ** (1 / max(freedom - 1, 1e-9)))   # below: nothing
    half = (angle - low) / 2
    part = half * float(WEIGHTS @ np.sin(low + half * (NODES + 1)) ** (freedom - 1))
    log_whole = (0.5 * math.log(math.pi) + math.lgamma(freedom / 2)
                 - math.lgamma((freedom + 1) / 2))
    return min(1.0, 2 * part / math.exp(log_whole))


@functools.cache
def critical(level, freedom):
    """The t that chance exceeds with probability `level`, two-sided: the inverse of p_value."""
    if not 0 < level < 1:
        raise ValueError(f"a level is a probability between 0 and 1, not {level}")
    low, high = 0.0, 1.0
    while p_value(high, freedom) > level:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, freedom) > level else (low, middle)
    return (low + high) / 2


def paired(these, those, level=0.05):
    """Compare two lists of n ≥ 2 losses, seed by seed: is the mean difference more than chance?

    Returns {"mean", "spread" (of one difference), "low", "high" (an interval that holds the true
    mean in 1 − level of all studies), "t", "p"}. Assumes differences that are independent of each
    other and normal. Raises ValueError where the lists differ in length or have fewer than two.
    """
    d = differences(these, those)
    n, mean, spread = len(d), float(d.mean()), float(d.std(ddof=1))
    error = spread / math.sqrt(n)
    t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    reach = critical(level, n - 1) * error
    return {"mean": mean, "spread": spread, "low": mean - reach, "high": mean + reach, "t": t,
            "p": p_value(t, n - 1)}


def differences(these, those):
    """these − those, float64 (n,); ValueError where there are not two finite ones of each."""
    a, b = np.asarray(these, np.float64), np.asarray(those, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"losses of shapes {a.shape} and {b.shape}: wanted two lists of the same "
                         "n ≥ 2 seeds, in the same order")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a loss is not finite: a run that diverged has no mean. Say how many "
                         "diverged, and compare the others apart")
    return a - b


def holm(p_values):
    """Adjusted p-values, in the order given: those at most α are real at family-wise level α.

    The smallest of m is multiplied by m, the next by m − 1, and so on; none may fall below one
    before it, nor exceed 1. Source: Holm (1979), section 3, as adjusted values.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    m, largest = len(p_values), 0.0
    adjusted = [0.0] * m
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, (m - rank) * p_values[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


def power(effect, n, level=0.05):
    """Probability that n pairs find a true difference of `effect` spreads at this level.

    t then has a mean shifted by effect·√n: given the estimated spread S (in true ones), it exceeds
    the limit c where a standard normal exceeds c·S − effect·√n. The mean over S, whose square is
    a mean of n − 1 squared normals, by 400 midpoints.
    """
    freedom, limit, shift = n - 1, critical(level, n - 1), abs(effect) * math.sqrt(n)
    width = 8 / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - width), 1 + width
    S = low + (high - low) * (np.arange(400) + 0.5) / 400
    log_density = (freedom - 1) * np.log(S) - freedom * S * S / 2
    density = np.exp(log_density - log_density.max())
    found = [above(limit * s - shift) + above(limit * s + shift) for s in S]
    return float(density @ found / density.sum())


def above(z):
    """P(a standard normal > z)."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def seeds_needed(effect, level=0.05, wanted=0.8, most=10_000):
    """The fewest pairs, at least 2, whose power is `wanted`; `most` where not even so many do.

    effect: true difference over the spread of one difference. ValueError where it is 0.
    """
    if not effect:
        raise ValueError("no number of seeds finds a difference of 0")
    low, high = 1, 2
    while high < most and power(effect, high, level) < wanted:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= wanted else (middle, high)
    return high


def bootstrap(d, rng, level=0.05, draws=2000):
    """(low, high): the middle 1 − level of the means of `draws` resamples of d (n,), with repeats.

    Assumes no shape, but takes the sample for the world: with few numbers it is too narrow.
    Source: Efron (1979); the percentile interval is Efron (1981).
    """
    d = np.asarray(d, np.float64)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(f"differences of shape {d.shape}: wanted (n,) with n ≥ 2")
    means = d[rng.integers(0, len(d), (draws, len(d)))].mean(axis=1)
    low, high = np.quantile(means, (level / 2, 1 - level / 2))
    return float(low), float(high)


def two_way(losses):
    """Variances that make up a table (a, b) of one run per start (row) and order (column).

    Model: loss = mean + row + column + rest, all independent. Mean squares of rows, columns and
    rest estimate b·rows + rest, a·columns + rest and rest. Returns {"start", "order", "rest"};
    an estimate that comes out negative is given as it is. Source: Fisher (1925), chapter VII.
    """
    x = np.asarray(losses, np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise ValueError(f"losses of shape {x.shape}: wanted at least 2 starts × 2 orders")
    a, b = x.shape
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    rest = x - rows[:, None] - columns + x.mean()
    square = float((rest ** 2).sum() / ((a - 1) * (b - 1)))
    return {"start": float(rows.var(ddof=1)) - square / b,
            "order": float(columns.var(ddof=1)) - square / a, "rest": square}
