"""Day 13 · Exercises to build; `python -m days check 13` grades them."""

import numpy as np

from llm.grad import dual
from llm.grad.dual import exp, sin, tanh
from llm.grad.scalar import Value


def jacobian(f, xs):
    """All ∂fᵢ/∂xⱼ of a function with n inputs and m outputs, by ONE forward and m backward sweeps.

    f: list of n numbers → list of m numbers. xs: list of n floats. An output may be a plain float.
    Returns a list of m rows of n floats. Example::

        jacobian(lambda x: [x[0] * x[1], x[0] + 2.0 * x[1]], [3.0, 5.0])
        # [[5.0, 3.0], [1.0, 2.0]]
    """
    raise NotImplementedError


def count_paths(result, leaf):
    """How many different paths lead from `result` down to `leaf`, in one sweep over the nodes.

    result, leaf: Values. Returns an int, exact also beyond 2**53. Two edges between the same two
    nodes are two paths. Example::

        a = Value(1.0); b = a + a; c = b + b
        count_paths(c, a)                                     # 4
    """
    raise NotImplementedError


def check_jacobian(f):
    """The hand example, then random functions against the columns that dual numbers give."""
    found = f(lambda x: [x[0] * x[1], x[0] + 2.0 * x[1]], [3.0, 5.0])
    assert found == [[5.0, 3.0], [1.0, 2.0]], found
    calls = []

    def formulas(x):
        calls.append(1)
        shared = tanh(x[0] * x[1]) + x[2]  # used by all outputs: nothing may be left over
        return [shared * shared, exp(shared) - x[2], sin(x[1]) / (2.0 + shared), x[0], 7.0]

    for seed in range(5):
        xs = np.random.default_rng(seed).standard_normal(3).tolist()
        expected = [dual.gradient(lambda x, i=i: formulas(x)[i], xs) for i in range(5)]
        calls.clear()
        found = f(formulas, xs)
        assert len(calls) == 1, f"f was called {len(calls)} times; one forward sweep is enough"
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def check_count_paths(f):
    """Doublings, a diamond, a leaf that is not below, and a graph with too many paths to walk."""
    a, other = Value(1.0), Value(2.0)
    assert f(a, a) == 1
    assert f(a + other * 2.0, other) == 1
    assert f(a * 2.0, other) == 0
    assert f((a + 1.0) * (a - 1.0) + a, a) == 3
    x = a
    for _ in range(200):
        x = x + x
    assert f(x + a, a) == 2**200 + 1, "count with Python's integers: floats round beyond 2**53"
