"""Day 07 · Build: a log-sum-exp in one pass, and an entropy with its first bias removed."""

import math

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
