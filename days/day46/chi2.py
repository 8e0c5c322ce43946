"""Day 46 · Is this sample from that distribution? The χ² test, for whole texts of a few tokens."""

import itertools
import math
from statistics import NormalDist

import numpy as np

from llm.generate.truncate import Chooser


def value(counts, expected):
    """Σ (count − expected)² / expected over all cells. Source: Pearson (1900)."""
    counts, expected = np.asarray(counts, float).ravel(), np.asarray(expected, float).ravel()
    return float(((counts - expected) ** 2 / expected).sum())


def limit(freedom, chance):
    """What χ² with so many degrees of freedom exceeds with this probability, within 1 %.

    Its cube root is nearly normal. Source: Wilson and Hilferty (1931).
    """
    shrink = 2 / (9 * freedom)
    return freedom * (1 - shrink + NormalDist().inv_cdf(1 - chance) * math.sqrt(shrink)) ** 3


def joint(p, first, n):
    """P of every text of n tokens after `first`, for a chain p (V, V): an array of n axes V."""
    V, found = len(p), np.empty((len(p),) * n)
    for text in itertools.product(range(V), repeat=n):
        path = (first, *text)
        found[text] = math.prod(p[a, b] for a, b in itertools.pairwise(path))
    return found


def count(write, V, n, times, rng, **options):
    """How often each text of n tokens came in `times` tries: write(chooser) yields one text."""
    counts = np.zeros((V,) * n, int)
    for _ in range(times):
        counts[tuple(write(Chooser(rng, **options)))] += 1
    return counts


def texts(chances_after, ids, n):
    """{text of n ids: its probability} of all texts after `ids` that are possible at all.

    chances_after(ids) -> (V,), what the next id is drawn from.
    """
    if n == 0:
        return {(): 1.0}
    p, found = chances_after(ids), {}
    for i in np.flatnonzero(p):
        for rest, chance in texts(chances_after, [*ids, int(i)], n - 1).items():
            found[(int(i), *rest)] = p[i] * chance
    return found
