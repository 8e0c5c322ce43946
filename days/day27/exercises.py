"""Day 27 · Exercises to build; `python -m days check 27` grades them."""

import numpy as np

from llm.functions.attention import attention, attention_vjp


def gaussian_lookup(x, y, at, width):
    """Kernel regression (Nadaraya and Watson) by ONE call of `attention`, no exp of your own.

    x (N,), y (N,): points and their heights; at (M,): where to ask; width: σ > 0, a float.
    Returns (M,): Σ y·exp(−(at − x)²/2σ²) / Σ exp(−(at − x)²/2σ²). Example::

        gaussian_lookup(np.array([0.0, 1.0]), np.array([2.0, 4.0]), np.array([0.5]), 1.0)  # [3.0]
    """
    raise NotImplementedError


def correction(dout, out):
    """The inner products of the softmax's backward without the T × T weights.

    dout, out (..., Tq, Dv): the gradient of attention's output, and that output.
    Returns (..., Tq, 1): for each query Σ over keys of dweights · weights. Example::

        correction(np.array([[1.0, 0.0]]), np.array([[6.0, 1.0]]))    # [[6.0]]
    """
    raise NotImplementedError


def check_gaussian_lookup(f):
    """The middle of two points, random points against the formula, and that attention is used."""
    found = f(np.array([0.0, 1.0]), np.array([2.0, 4.0]), np.array([0.5]), 1.0)
    assert np.allclose(found, [3.0]), found
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, y, at = rng.normal(size=9), rng.normal(size=9), rng.normal(size=4)
        for width in (0.3, 1.0, 2.5):
            near = np.exp(-((at[:, None] - x) ** 2) / (2 * width**2))
            expected = near @ y / near.sum(axis=1)
            found = f(x, y, at, width)
            assert found.shape == (4,), f"expected shape (4,), got {found.shape}"
            assert np.allclose(found, expected), f"width {width}: {found} instead of {expected}"
    far = f(np.array([0.0, 1000.0]), np.array([2.0, 4.0]), np.array([990.0]), 1.0)
    assert np.allclose(far, [4.0]), "far points underflow; let attention's softmax take care of it"


def check_correction(f):
    """The hand example, then a whole backward that uses it against attention_vjp."""
    assert np.allclose(f(np.array([[1.0, 0.0]]), np.array([[6.0, 1.0]])), [[6.0]])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        q, k, v = (rng.normal(size=(2, n, 4)) for n in (3, 5, 5))
        out, saved = attention(q, k, v)
        dout, weights = rng.normal(size=out.shape), saved[3]
        found = f(dout, out)
        assert found.shape == (2, 3, 1), f"expected shape (2, 3, 1), got {found.shape}"
        dscores = weights * (dout @ v.swapaxes(-1, -2) - found) / 2.0
        assert np.allclose(dscores @ k, attention_vjp(dout, *saved)[0]), "dq comes out wrong"
