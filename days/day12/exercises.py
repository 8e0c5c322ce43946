"""Day 12 · Exercises to build; `python -m days check 12` grades them."""

import cmath
import math

import numpy as np

from llm.grad.dual import cos, exp, gradient, sin, tanh


def jvp(f, xs, direction):
    """The slope of f at xs along a direction, Σᵢ ∂f/∂xᵢ · directionᵢ, in ONE dual pass.

    f: list of n numbers → one number. xs, direction: lists of n floats. Returns a float. Example::

        jvp(lambda x: x[0] * x[1], [3.0, 5.0], [1.0, 2.0])    # 5·1 + 3·2 = 11.0
    """
    raise NotImplementedError


def complex_step(f, x, h=1e-200):
    """f′(x) from one call of f at a complex number: no difference is taken, so nothing cancels.

    f: takes and returns a complex number (polynomials, cmath.exp, cmath.sin …), real for real x.
    x: float. Returns a float. Example::

        complex_step(lambda z: z**3, 2.0)                     # 12.0
    """
    raise NotImplementedError


def check_jvp(f):
    """The hand example, random directions against n passes, and that f was called once."""
    assert f(lambda x: x[0] * x[1], [3.0, 5.0], [1.0, 2.0]) == 11.0
    rng = np.random.default_rng(0)
    calls = []

    def formula(x):
        calls.append(1)
        return exp(x[0] * x[1]) / (2.0 + sin(x[2])) + tanh(x[0] - x[2]) * cos(x[1])

    for _ in range(10):
        xs, direction = rng.standard_normal((2, 3)).tolist()
        expected = float(np.dot(gradient(formula, xs), direction))
        calls.clear()
        found = f(formula, xs, direction)
        assert len(calls) == 1, f"f was called {len(calls)} times; one pass is enough"
        assert math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-14), (found, expected)
    assert f(lambda x: 4.0, [1.0], [1.0]) == 0.0, "a constant has slope 0"


def check_complex_step(f):
    """Exact to rounding where finite differences lose five digits or more."""
    assert math.isclose(f(lambda z: z**3, 2.0), 12.0, rel_tol=1e-15)
    for x in (0.1, 0.7, 1.3):
        found = f(lambda z: cmath.exp(z) * cmath.sin(z), x)
        exact = math.exp(x) * (math.sin(x) + math.cos(x))
        assert math.isclose(found, exact, rel_tol=1e-14), (found, exact)
    assert isinstance(f(cmath.exp, 0.0), float), "return a float, not a complex number"
