"""Day 21 · Exercises to build; `python -m days check 21` grades them."""

import numpy as np

from llm.grad.tensor import Tensor
from llm.layers.norm import BatchNorm


def fold(w, b, norm):
    """A linear layer and the BatchNorm after it, in evaluation, as one linear layer.

    w (Cin, Cout), b (Cout,): arrays; norm: a BatchNorm(Cout). Returns (w', b') of the same shapes
    with xw' + b' = norm(xw + b) for every x; nothing that was passed in is changed.
    """
    raise NotImplementedError


def merge_statistics(one, other):
    """Mean and variance of two groups of numbers together, from (count, mean, variance) of each.

    Variances divide by the count. No cancellation: numbers near 10⁸ with variance 1 must come
    out right, so E[x²] − E[x]² won't do. Returns (count, mean, variance). A group may be empty.
    """
    raise NotImplementedError


def check_fold(f):
    """Random layers against layer and norm one after the other; inputs left alone."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        norm = BatchNorm(3, eps=0.1, dtype=np.float64)
        norm.gain.data[...], norm.bias.data[...], norm.mean[...] = rng.standard_normal((3, 3))
        norm.var[...] = rng.uniform(0.1, 4, 3)
        w, b, x = (rng.standard_normal(shape) for shape in ((5, 3), (3,), (2, 4, 5)))
        kept = w.copy(), b.copy()
        found = f(w, b, norm)
        assert np.array_equal(w, kept[0]) and np.array_equal(b, kept[1]), "w or b was changed"
        assert found[0].shape == (5, 3) and found[1].shape == (3,), [a.shape for a in found]
        assert np.allclose(x @ found[0] + found[1], norm(Tensor(x @ w + b)).data), "not the same"


def check_merge_statistics(f):
    """Small groups, empty ones, and numbers so large that the difference of squares is noise."""
    assert f((2, 1.0, 1.0), (0, 0.0, 0.0)) == (2, 1.0, 1.0)
    assert f((0, 0.0, 0.0), (2, 1.0, 1.0)) == (2, 1.0, 1.0)
    for offset in (0.0, 1e8):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            a, b = (offset + rng.standard_normal(n) for n in rng.integers(1, 50, 2))
            whole = np.append(a, b)
            n, mean, variance = f(*((len(x), x.mean(), x.var()) for x in (a, b)))
            assert n == len(whole) and np.isclose(mean, whole.mean(), rtol=1e-14), (n, mean)
            assert np.isclose(variance, whole.var(), rtol=1e-6), (
                f"variance {variance} instead of {whole.var()} at numbers near {offset:g}")
