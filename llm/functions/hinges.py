"""Day 10 · A one-hidden-layer ReLU network through any points, built without training.

Universal approximation on a line, made exact: m hinges go through m + 1 points. Left out: more
than one input (the number of hinges explodes) and learning (days 14 to 18).
"""

import numpy as np

from llm.functions.dense import linear, relu


def network(x, w1, b1, w2, b2):
    """relu(x·w1 + b1)·w2 + b2: x (..., 1), w1 (1, M), b1 (M,), w2 (M, 1), b2 (1,) → (..., 1)."""
    return linear(relu(linear(x, w1, b1)), w2, b2)  # (..., 1) → (..., M) → (..., 1)


def through(x, y):
    """The network of m hinges through m + 1 points: x and y (m + 1,), x rising → w1, b1, w2, b2.

    Between the points it is the straight line from one to the next, left of x[0] it stays y[0],
    right of the last point the last line goes on.
    Raises: ValueError with the shapes, or where x does not rise.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"through: x {x.shape} and y {y.shape} must both be (m + 1,), m ≥ 1")
    if not (np.diff(x) > 0).all():
        raise ValueError("through: x must rise strictly; sort the points and drop doubles")
    slope = np.diff(y) / np.diff(x)            # (m,), of the piece between points k and k + 1
    bend = np.diff(slope, prepend=0)           # (m,), how much the slope changes at point k
    return np.ones((1, len(bend)), bend.dtype), -x[:-1], bend[:, None], y[:1]


def least_squares(knots, x, y):
    """The hinges at `knots` (m,), weighted to fit y best in the mean square: → w1, b1, w2, b2.

    x and y (N,): the points to fit. Solves (m + 1) linear equations; N·m² FLOPs or so.
    Raises: ValueError with the shapes.
    """
    knots, x, y = np.asarray(knots), np.asarray(x), np.asarray(y)
    if knots.ndim != 1 or x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"least_squares: knots {knots.shape} must be (m,), and x {x.shape} and "
                         f"y {y.shape} both (N,)")
    features = np.hstack([relu(x[:, None] - knots), np.ones_like(x)[:, None]])  # (N, m + 1)
    weights = np.linalg.lstsq(features, y, rcond=None)[0]
    return np.ones((1, len(knots)), knots.dtype), -knots, weights[:-1, None], weights[-1:]
