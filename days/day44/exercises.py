"""Day 44 · Exercises to build; `python -m days check 44` grades them."""

import numpy as np

from llm.quantize.int8 import dequantize, quantize


def break_the_twelfth(n):
    """Two arrays of n numbers, float64, for which s²/12 is wrong when `quantize(x)` rounds them.

    For the first the mean of the squared errors is less than s²/1000; for the second more than
    s²/4.2, where s is the scale. Both have at least n // 2 distinct numbers, and n is 40 … 200.
    """
    raise NotImplementedError


def split_product(x, w, threshold):
    """x (n, K) times w (K, N): channels of x that exceed `threshold` anywhere in float, the rest
    in 8 bits.

    A scale for each row of the rest of x, and one for each column of the rest of w; symmetric. If
    there are no outliers it is the product of `quantize`d x and w, if all are it is x @ w.
    Source of the idea: Dettmers and others (2022), LLM.int8().
    """
    raise NotImplementedError


def scale_in_integers(total, scale):
    """round(total · scale) without floats: total, an int64 array of sums below 2³¹ in size.

    0 < scale < 1, a float. Write it once as m · 2^(−shift) with an integer 2³⁰ ≤ m < 2³¹, then
    multiply, add half, and shift, all in int64. An error of 1 is allowed. Returns int64.
    """
    raise NotImplementedError


def check_break_the_twelfth(f):
    """The mean squared error of both arrays, in units of the scale."""
    for n in (40, 64, 200):
        for x, (low, high) in zip(f(n), ((0, 1e-3), (1 / 4.2, np.inf))):
            x = np.asarray(x, np.float64)
            assert x.shape == (n,), f"shape {x.shape}, wanted ({n},)"
            assert len(np.unique(x)) >= n // 2, f"{len(np.unique(x))} distinct numbers of {n}"
            q = quantize(x)
            found = ((x - dequantize(q)) ** 2).mean() / q.scale.item() ** 2
            assert low <= found <= high, f"n = {n}: {found:.4f} · s², wanted {low:.3f} … {high}"


def check_split_product(f):
    """Against x @ w with an outlier channel; and both extremes exactly."""
    rng = np.random.default_rng(0)
    for n, K, N in ((1, 4, 3), (16, 64, 24)):
        x, w = rng.standard_normal((n, K)), rng.standard_normal((K, N))
        plain = lambda x, w: dequantize(quantize(x, axis=1)) @ dequantize(quantize(w, axis=0))
        assert np.allclose(f(x, w, 1e9), plain(x, w)), "no outliers: all in 8 bits"
        assert np.allclose(f(x, w, 0.0), x @ w), "every channel an outlier: all in float"
        x[:, 2] *= 300
        x[0, 2] = 300
        error = np.abs(f(x, w, 20.0) - x @ w).max()
        worse = np.abs(plain(x, w) - x @ w).max()
        assert error < worse / 10, f"error {error:.3f} with the split, {worse:.3f} without"
        rest = np.delete(np.arange(K), 2)
        assert np.allclose(f(x, w, 20.0), plain(x[:, rest], w[rest]) + np.outer(x[:, 2], w[2]))


def check_scale_in_integers(f):
    """Against floats, over many sizes of the scale; the result may be off by one."""
    rng = np.random.default_rng(1)
    total = np.concatenate([rng.integers(-2**31 + 1, 2**31, 500), [0, 1, -1, 2**31 - 1]])
    for scale in (0.999, 0.5, 0.3, 0.01, 1e-5, 2.0**-20, *rng.uniform(0, 1, 20)):
        found = f(total.astype(np.int64), float(scale))
        assert found.dtype == np.int64, f"type {found.dtype}, wanted int64"
        off = np.abs(found - np.rint(total * scale)).max()
        assert off <= 1, f"scale {scale}: off by {off:.0f}"
