"""Day 07 · Build: log-sum-exp in one pass, an entropy less biased, a code as short as surprise."""

import math
from fractions import Fraction

import numpy as np


def streaming_logsumexp(chunks):
    """Return log Σ exp(z) over all numbers of an iterable of arrays, seeing each array once.

    chunks: an iterable (perhaps a generator) of non-empty float64 arrays (N,), of any finite size.
    Keep two numbers between chunks, not the chunks. No chunks at all give −∞. Example::

        streaming_logsumexp([np.zeros(3), np.array([math.log(5)])])  →  2.0794… = ln 8
    """
    raise NotImplementedError


def miller_madow(ids):
    """Return the plug-in entropy of ids (T,) in nats plus (K − 1) / (2 T), K ids being distinct.

    The plug-in is −Σ n/T log(n/T) over the counts n. Example::

        miller_madow(np.array([0, 0, 1, 1]))  →  0.8181… = ln 2 + 1/8
    """
    raise NotImplementedError


def arithmetic_code(ids, p):
    """Return the shortest code of a text: a string of "0" and "1" (the example's is "10").

    ids: a list of integers in 0 … V−1. p: V positive Fractions with sum 1, the probability of each
    id at every place. The text owns an interval in [0, 1): begin with all of it, and at each id
    keep the part that this id has, parts laid out in the order of the ids. A code of n bits with
    value k owns [k / 2**n, (k + 1) / 2**n). Return the shortest code whose interval lies inside
    the text's, and the lowest k if there are two. Work with Fractions: they do not round.

        arithmetic_code([1], [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)])  →  "10"
    """
    raise NotImplementedError


def check_streaming_logsumexp(f):
    """Examples, sizes that overflow, and random chunks against NumPy's pairwise logaddexp."""
    assert math.isclose(f([np.zeros(3), np.array([math.log(5)])]), math.log(8))
    assert f([]) == -math.inf
    assert math.isclose(f([np.array([-1e4, -1e4])]), -1e4 + math.log(2))
    assert math.isclose(f([np.array([0.0]), np.array([1e4, 1e4])]), 1e4 + math.log(2))
    rng = np.random.default_rng(0)
    for scale in (1, 100, 1000):
        chunks = [rng.normal(size=n) * scale for n in (1, 7, 2, 30, 5)]
        want = float(np.logaddexp.reduce(np.concatenate(chunks)))
        got = f(chunk for chunk in chunks)
        assert math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-12), f"{got} is not {want}"


def check_miller_madow(f):
    """The example, the formula, and that it is nearer the truth than counting alone."""
    assert math.isclose(f(np.array([0, 0, 1, 1])), math.log(2) + 1 / 8)
    assert f(np.array([7, 7, 7])) == 0
    rng = np.random.default_rng(1)
    plain, corrected, truth = [], [], math.log(20)
    for _ in range(200):
        ids = rng.integers(0, 20, 60) * 3
        n = np.unique(ids, return_counts=True)[1]
        plain.append(-(n / 60 * np.log(n / 60)).sum())
        corrected.append(f(ids))
        assert math.isclose(corrected[-1], plain[-1] + (len(n) - 1) / 120)
    assert abs(np.mean(corrected) - truth) < abs(np.mean(plain) - truth) / 3


def check_arithmetic_code(f):
    """Small cases by hand, then random texts: each can be read back and is short enough."""
    p = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    assert f([1], p) == "10" and f([0, 0], p) == "00" and f([2, 1], p) == "1110" and f([], p) == ""
    assert f([1], [Fraction(1, 3)] * 3) == "011"         # [3/8, 4/8) lies in [1/3, 2/3)
    rng = np.random.default_rng(2)
    for length in (1, 2, 5, 30, 100):
        weights = rng.integers(1, 20, 6).tolist()
        p = [Fraction(w, sum(weights)) for w in weights]
        ids = rng.choice(6, length, p=[float(x) for x in p]).tolist()
        bits = f(ids, p)
        surprise = -sum(math.log2(p[i]) for i in ids)
        assert surprise - 1e-9 <= len(bits) < surprise + 2, f"{len(bits)} bits for {surprise:.2f}"
        at, got = Fraction(int(bits, 2), 2 ** len(bits)), []
        for _ in ids:                                    # read the code: which part holds it?
            got.append(next(i for i in range(6) if at < sum(p[:i + 1])))
            at = (at - sum(p[:got[-1]])) / p[got[-1]]
        assert got == ids
