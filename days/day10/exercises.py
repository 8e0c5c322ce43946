"""Day 10 · Build: two linear layers folded into one, and a bump made of hinges."""

import numpy as np

from llm.functions.dense import linear
from llm.functions.hinges import network


def fold(w1, b1, w2, b2):
    """One layer w (Cin, Cout), b (Cout,) that equals linear(linear(x, w1, b1), w2, b2).

    w1 (Cin, M), b1 (M,), w2 (M, Cout), b2 (Cout,). Example, all of size 1::

        fold([[2]], [1], [[3]], [5])  →  [[6]], [8]
    """
    raise NotImplementedError


def bump(a, b, c, d):
    """w1 (1, 4), b1 (4,), w2 (4, 1), b2 (1,) of a network that is a trapezoid, for a < b < c < d.

    It is 0 left of a, rises in a straight line to 1 at b, stays 1 to c, falls to 0 at d and stays
    there. Example::

        network(x, *bump(0, 1, 3, 5))  at x = 0.5, 2, 4, 9  →  0.5, 1, 0.5, 0
    """
    raise NotImplementedError


def check_fold(f):
    """The example, then random layers."""
    w, b = f(np.array([[2.]]), np.array([1.]), np.array([[3.]]), np.array([5.]))
    assert (np.asarray(w).tolist(), np.asarray(b).tolist()) == ([[6]], [8]), f"got {w}, {b}"
    rng = np.random.default_rng(0)
    for cin, m, cout in [(3, 8, 2), (5, 1, 4)]:
        w1, b1, w2, b2 = (rng.normal(size=s) for s in ((cin, m), (m,), (m, cout), (cout,)))
        x = rng.normal(size=(7, cin))
        np.testing.assert_allclose(linear(x, *f(w1, b1, w2, b2)),
                                   linear(linear(x, w1, b1), w2, b2), atol=1e-12)


def check_bump(f):
    """The example, then random trapezoids against NumPy's interpolation."""
    x = np.array([[.5], [2], [4], [9], [-3]])
    np.testing.assert_allclose(network(x, *f(0., 1., 3., 5.))[:, 0], [.5, 1, .5, 0, 0], atol=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(5):
        corners = np.sort(rng.uniform(-3, 3, 4))
        x = rng.uniform(-5, 5, (100, 1))
        np.testing.assert_allclose(network(x, *f(*corners))[:, 0],
                                   np.interp(x[:, 0], corners, [0, 1, 1, 0]), atol=1e-9)
