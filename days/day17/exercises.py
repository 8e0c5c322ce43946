"""Day 17 · Exercises to build; `python -m days check 17` grades them."""

import numpy as np


def largest_curvature(gradient, x, steps, rng):
    """The largest eigenvalue of the Hessian at x, from gradients alone: power iteration.

    gradient(x) → (n,) float64; x (n,). A Hessian times a vector v is about
    (gradient(x + εv) − gradient(x − εv)) / 2ε. Start from a random vector of `rng`; `steps`
    products. Returns a float. The Hessian is symmetric and no eigenvalue is negative.
    """
    raise NotImplementedError


def heavy_ball_steps(curvature, rate, momentum, start, steps):
    """The path of ½·curvature·x² under momentum, without a loop over the steps.

    The pair (x_t, x_{t−1}) is a fixed (2, 2) matrix times the pair before; x_{−1} = x_0 = start,
    since the velocity starts at 0. Returns x after `steps` steps, a float. Use
    `np.linalg.matrix_power`.
    """
    raise NotImplementedError


def check_largest_curvature(f):
    """Random bowls, turned by random rotations, and a loss that is no bowl."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
        curvatures = np.append(rng.uniform(0.1, 5, 7), 7.0)
        a, b = q * curvatures @ q.T, rng.standard_normal(8)
        found = f(lambda x, a=a, b=b: a @ x - b, rng.standard_normal(8), 200, rng)
        assert abs(found - 7.0) < 1e-3, f"the largest curvature is 7, and you found {found}"
    found = f(np.sinh, np.array([0.0, 1.0, 2.0]), 200, np.random.default_rng(9))
    assert abs(found - np.cosh(2.0)) < 1e-3, (found, np.cosh(2.0))


def check_heavy_ball_steps(f):
    """The example by hand, then against the loop."""
    assert abs(f(1.0, 0.1, 0.9, 1.0, 3) - 0.486) < 1e-12, f(1.0, 0.1, 0.9, 1.0, 3)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        curvature, rate, momentum = rng.uniform(0.5, 3), rng.uniform(0.05, 0.5), rng.uniform(0, 1)
        x, v = 2.0, 0.0
        for t in range(20):
            found = f(curvature, rate, momentum, 2.0, t)
            assert abs(found - x) < 1e-9, f"after {t} steps: {found} instead of {x}"
            v = momentum * v + curvature * x
            x -= rate * v
