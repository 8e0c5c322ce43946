"""Day 63 · Studies in which nothing is true, by the thousand: how often each habit finds something.

Losses are drawn as normal numbers, so the truth is known. Left out: anything that trains.
"""

import math

import numpy as np

from days.day63.few_seeds import bootstrap, critical


def t_values(d):
    """d (..., n) differences -> t (...)."""
    n = d.shape[-1]
    return d.mean(axis=-1) / (d.std(axis=-1, ddof=1) / math.sqrt(n))


def false_alarms(m, n, studies, rng, level=0.05):
    """(uncorrected, Holm): share of studies that call at least one of m equal variants different.

    Each variant is compared with the same baseline over n seeds. Holm rejects something exactly if
    the smallest p is at most level/m.
    """
    losses = rng.standard_normal((studies, m + 1, n))
    largest = np.abs(t_values(losses[:, 1:] - losses[:, :1])).max(axis=1)
    return tuple(float((largest > critical(x, n - 1)).mean()) for x in (level, level / m))


def winners_curse(m, studies, rng):
    """(screened, fresh): mean loss of the best of m equal variants, where it won and when run anew.

    One seed each, in units of a run's standard deviation; the true mean of all is 0. The first is
    the expectation of the least of m standard normals; the second is 0.
    """
    first, second = rng.standard_normal((2, studies, m))
    best = first.argmin(axis=1)
    rows = np.arange(studies)
    return float(first[rows, best].mean()), float(second[rows, best].mean())


def peeking(first, last, studies, rng, level=0.05):
    """Share of studies of two equal variants that end with a verdict, if after `first` seeds one
    tests after every further seed up to `last` and stops as soon as it is below `level`."""
    d = rng.standard_normal((studies, last))
    found = np.zeros(studies, bool)
    for n in range(first, last + 1):
        found |= np.abs(t_values(d[:, :n])) > critical(level, n - 1)
    return float(found.mean())


def dropped_seed(n, studies, rng, level=0.05):
    """Share of studies of two equal variants with a verdict, if one of n seeds may be left out as
    an "outlier", whichever helps."""
    d = rng.standard_normal((studies, n))
    found = np.abs(t_values(d)) > critical(level, n - 1)
    for i in range(n):
        found |= np.abs(t_values(np.delete(d, i, axis=1))) > critical(level, n - 2)
    return float(found.mean())


def coverage(n, studies, rng, level=0.05, draws=400):
    """(t, bootstrap): share of intervals from n normal numbers that hold their true mean 0."""
    d = rng.standard_normal((studies, n))
    by_t = np.abs(t_values(d)) <= critical(level, n - 1)
    held = 0
    for row in d:
        low, high = bootstrap(row, rng, level, draws)
        held += low <= 0 <= high
    return float(by_t.mean()), held / studies


def pairing(correlation, effect, n, studies, rng, level=0.05):
    """(paired, unpaired): share of studies that find a true difference of `effect` spreads of a
    run, where the two runs of a seed are correlated so much."""
    common = rng.standard_normal((studies, n)) * math.sqrt(correlation)
    a, b = common + math.sqrt(1 - correlation) * rng.standard_normal((2, studies, n))
    b = b + effect
    together = np.abs(t_values(b - a)) > critical(level, n - 1)
    pooled = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / n)
    apart = np.abs((b.mean(axis=1) - a.mean(axis=1)) / pooled) > critical(level, 2 * n - 2)
    return float(together.mean()), float(apart.mean())
