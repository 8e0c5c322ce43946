"""Day 10 · Solutions: two linear layers folded into one, and a bump made of hinges."""

import numpy as np

from llm.functions.dense import linear


def fold(w1, b1, w2, b2):
    """(xW₁ + b₁)W₂ + b₂ = x(W₁W₂) + (b₁W₂ + b₂)."""
    return linear(w1, w2), linear(b1, w2, b2)


def bump(a, b, c, d):
    """Four changes of slope: up at a, level at b, down at c, level at d."""
    up, down = 1 / (b - a), 1 / (d - c)
    bend = np.array([[up], [-up], [-down], [down]])
    return np.ones((1, 4)), -np.array([a, b, c, d]), bend, np.zeros(1)
