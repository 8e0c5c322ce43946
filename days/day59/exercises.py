"""Day 59 · Exercises to build; `python -m days check 59` grades them."""

import itertools
import math

import numpy as np


def clip_higher():
    """A pair (f, f_vjp): GRPO's clipped term with a band that is wider upwards, as in DAPO.

    f(logps, old, advantages, weights, low=0.2, high=0.28): logps, old, weights (N, T), advantages
    (N,), all float. Returns (−Σ w·min(r·A, clip(r, 1 − low, 1 + high)·A), saved) with
    r = exp(logps − old). f_vjp(dloss, *saved) returns dlogps and three times None. Example, one
    token with r = 1.25 and A = 1: still inside, so the loss is −1.25::

        one = np.ones((1, 1))
        f(np.log(1.25) * one, 0 * one, np.ones(1), one)[0]                          # -1.25
    """
    raise NotImplementedError


def majority_at_k(answers, truth, k):
    """maj@k: how often the most frequent of k answers is right, over all choices of k of them.

    answers: a list of n strings; truth: the right one. Of answers that are equally frequent among
    the k the one that stands first among them counts. Returns a float. n is small: go through all
    C(n, k) choices, in the order of the list. Example, of three choices two have a majority of
    "7", and in ("5", "7") the first counts::

        majority_at_k(["7", "5", "7"], "7", 2)          # ("7","5"), ("7","7"), ("5","7"): 2/3

    Raises ValueError unless 1 ≤ k ≤ n.
    """
    raise NotImplementedError


def check_clip_higher(f):
    """The example, loops over random arrays, gradients by finite differences."""
    from llm.grad import check
    forward, backward = f()
    one = np.ones((1, 1))
    out, saved = forward(np.log(1.25) * one, 0 * one, np.ones(1), one)
    assert abs(float(out) + 1.25) < 1e-12, f"the example gives -1.25, not {out}"
    assert isinstance(saved, tuple), "return what the backward needs as a tuple"
    rng = np.random.default_rng(0)
    for low, high in ((.2, .28), (.1, .6), (0.0, .3)):
        old, logps = rng.normal(0, .4, (2, 4, 5))
        A, weights = rng.standard_normal(4), rng.random((4, 5))
        weights[1, 2:] = 0
        total = 0.0
        for i, t in itertools.product(range(4), range(5)):
            r = math.exp(logps[i, t] - old[i, t])
            total -= weights[i, t] * min(r * A[i], min(max(r, 1 - low), 1 + high) * A[i])
        out, _ = forward(logps, old, A, weights, low=low, high=high)
        assert np.isclose(out, total), f"low {low}, high {high}"
        check.check_pair(forward, backward, logps, old, A, weights, rng=rng, low=low, high=high,
                         differentiable=[0])


def check_majority_at_k(f):
    """The example, and the ends k = 1 and k = n."""
    assert math.isclose(f(["7", "5", "7"], "7", 2), 2 / 3)
    assert math.isclose(f(["7", "5", "7"], "5", 1), 1 / 3)
    assert f(["7", "5", "7"], "7", 3) == 1 and f(["7", "5", "7"], "5", 3) == 0
    many = ["1", "2", "2", "3", "1", "2"]
    wins = [max(dict.fromkeys(c), key=c.count) == "2" for c in itertools.combinations(many, 3)]
    assert math.isclose(f(many, "2", 3), np.mean(wins))
    for k in (0, 4):
        try:
            f(["7", "5", "7"], "7", k)
        except ValueError:
            continue
        raise AssertionError(f"{k} of 3 answers: raise ValueError")
