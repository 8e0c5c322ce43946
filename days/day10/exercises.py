"""Day 10 · Build: a deep zigzag of few hinges, and a bump made of hinges."""

import numpy as np

from llm.functions.dense import linear, relu
from llm.functions.hinges import network


def zigzag(k):
    """Layers of a network with k hidden layers of two hinges that draws a zigzag of 2**k pieces.

    Returns a list of k + 1 pairs (w, b), shapes (1, 2), (2, 2), …, (2, 1) and (2,), …, (1,). With a
    relu after each layer but the last, the network maps 0 … 1 onto a zigzag of 2**k straight
    pieces of equal width, from 0 up to 1, down to 0, and so on. Example, for k = 1::

        x = 0, 0.25, 0.5, 0.75, 1  →  0, 0.5, 1, 0.5, 0
    """
    raise NotImplementedError


def bump(a, b, c, d):
    """w1 (1, 4), b1 (4,), w2 (4, 1), b2 (1,) of a network that is a trapezoid, for a < b < c < d.

    It is 0 left of a, rises in a straight line to 1 at b, stays 1 to c, falls to 0 at d and stays
    there. Example::

        network(x, *bump(0, 1, 3, 5))  at x = 0.5, 2, 4, 9  →  0.5, 1, 0.5, 0
    """
    raise NotImplementedError


def check_zigzag(f):
    """The shapes, the tent, and every corner and middle of the zigzags of depth 1 to 6."""
    for k in range(1, 7):
        layers = f(k)
        assert len(layers) == k + 1, f"{k} hidden layers need {k + 1} pairs, not {len(layers)}"
        x = y = np.arange(2 ** (k + 1) + 1)[:, None] / 2 ** (k + 1)  # corners and middles
        for i, (w, b) in enumerate(layers):
            want = (1 if i == 0 else 2, 1 if i == k else 2)
            assert np.shape(w) == want, f"layer {i} of {k} has {np.shape(w)}, not {want}"
            y = linear(y, w, b) if i == k else relu(linear(y, w, b))
        tent = 1 - np.abs(1 - (x * 2 ** k) % 2)
        np.testing.assert_allclose(y, tent, atol=1e-9)


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
