"""Day 18 · Exercises to build; `python -m days check 18` grades them."""

import math

import numpy as np


def longest_step(t, beta1, beta2):
    """The largest |m̂|/√v̂ that t gradients can make, over all choices of them (ε = 0).

    m̂ and v̂ are Adam's corrected moments after step t; β₁² < β₂ < 1. A float. Example::

        longest_step(1, 0.9, 0.999)      # 1.0: m̂ = g and v̂ = g²
    """
    raise NotImplementedError


def lion_update(p, g, m, rate, beta1, beta2, decay):
    """One step of Lion in place: the sign of a moment, and one array of state instead of two.

    The direction is the sign of β₁m + (1 − β₁)g; p moves by rate against it and decays like
    AdamW's, both from the p of before; then m ← β₂m + (1 − β₂)g. Source: Chen et al. (2023),
    Algorithm 2. Returns None; p, g, m (any shape) keep their dtype, g is not changed.
    """
    raise NotImplementedError


def check_longest_step(f):
    """Known values, and that gradients which reach them exist and none goes beyond."""
    assert math.isclose(f(1, 0.9, 0.999), 1.0), f(1, 0.9, 0.999)
    for beta1, beta2, t in ((0.9, 0.999, 2), (0.9, 0.999, 50), (0.5, 0.9, 7), (0.0, 0.5, 9)):
        weights = beta1 ** np.arange(t)[::-1], beta2 ** np.arange(t)[::-1]      # of g₁ … g_t

        def ratio(g, weights=weights):
            m, v = ((w / w.sum() * x).sum() for w, x in zip(weights, (g, g * g)))
            return abs(m) / math.sqrt(v)

        found = f(t, beta1, beta2)
        assert math.isclose(ratio(weights[0] / weights[1]), found, rel_tol=1e-9), (
            f"β₁ {beta1}, β₂ {beta2}, t {t}: {found}, and there are gradients with "
            f"{ratio(weights[0] / weights[1])}")
        rng = np.random.default_rng(t)
        assert all(ratio(rng.standard_normal(t)) <= found + 1e-12 for _ in range(200))


def check_lion_update(f):
    """By hand, in place, several steps against the definition, and the dtype."""
    p, g, m = np.array([1.0, 2.0]), np.array([0.5, -3.0]), np.array([-1.0, 0.0])
    assert f(p, g, m, 0.1, 0.9, 0.99, 0.5) is None
    assert np.allclose(p, [1 - 0.1 * (-1 + 0.5), 2 - 0.1 * (-1 + 1.0)]), p
    assert np.allclose(m, [-0.99 + 0.005, -0.03]) and g.tolist() == [0.5, -3.0], (m, g)
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        p, m = rng.standard_normal((2, 3, 4)).astype(kind)
        x, mean, data = p.astype(float), m.astype(float), p
        for _ in range(5):
            g = rng.standard_normal((3, 4)).astype(kind)
            f(p, g, m, 0.01, 0.9, 0.99, 0.1)
            x = x - 0.01 * (np.sign(0.9 * mean + 0.1 * g) + 0.1 * x)
            mean = 0.99 * mean + 0.01 * g
        assert data is p and p.dtype == m.dtype == kind, "work in place, in the dtype given"
        assert np.allclose(p, x, atol=1e-5) and np.allclose(m, mean, atol=1e-5)
