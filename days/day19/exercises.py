"""Day 19 · Exercises to build; `python -m days check 19` grades them."""

import math

import numpy as np


def inverse_sqrt(step, peak, warmup):
    """The rate of step 1, 2, … in the first transformer's schedule, which needs no total.

    Linear from peak/warmup at step 1 to peak at step `warmup`, then falling as 1/√step without a
    jump. warmup ≥ 1. A float. Source: Vaswani et al. (2017), equation 3. Example::

        inverse_sqrt(16, 1.0, 4)      # 0.5: four times the warmup, half the rate
    """
    raise NotImplementedError


def momentum_floor(rate, curvature, noise, momentum):
    """E[x²] at which descent with momentum ends in one direction under noise. A float.

    Each step: v ← momentum·v + curvature·x + ξ, then x ← x − rate·v, with ξ independent of all
    before it, of mean 0 and variance `noise`. The run is stable (day 17): 0 ≤ momentum < 1,
    0 < rate·curvature < 2(1 + momentum). No loop until it settles, no random numbers. Example::

        momentum_floor(0.1, 1.0, 1.0, 0.0)      # 0.05263…, the floor of plain descent
    """
    raise NotImplementedError


def check_inverse_sqrt(f):
    """By hand, the paper's own formula, and neither jump nor zero."""
    found = [f(step, 1.0, 4) for step in (1, 2, 3, 4, 5, 16, 400)]
    assert np.allclose(found, [0.25, 0.5, 0.75, 1.0, math.sqrt(0.8), 0.5, 0.1]), found
    assert math.isclose(f(1, 0.3, 1), 0.3), "with a warmup of 1 the first step is at the peak"
    for channels, warmup in ((512, 4000), (64, 10)):
        peak = (channels * warmup) ** -0.5
        for step in (1, 7, warmup - 1, warmup, warmup + 1, 10 * warmup):
            paper = channels**-0.5 * min(step**-0.5, step * warmup**-1.5)
            assert math.isclose(f(step, peak, warmup), paper, rel_tol=1e-12), (
                f"step {step}, warmup {warmup}: {f(step, peak, warmup)}, the paper says {paper}")


def check_momentum_floor(f):
    """Without momentum, against the variances step by step, and near the edge of stability."""
    assert math.isclose(f(0.1, 1.0, 1.0, 0.0), 0.1 / 1.9), f(0.1, 1.0, 1.0, 0.0)
    for rate, curvature, noise, momentum in ((0.1, 1.0, 1.0, 0.9), (0.5, 2.0, 0.3, 0.5),
                                             (1.2, 2.5, 2.0, 0.6), (0.05, 0.4, 1.0, 0.8)):
        step = np.array([[1 - rate * curvature, -rate * momentum], [curvature, momentum]])
        kick = np.array([-rate, 1.0])                      # (x, v) ← step·(x, v) + kick·ξ
        spread = np.zeros((2, 2))
        for _ in range(20_000):
            spread = step @ spread @ step.T + noise * np.outer(kick, kick)
        found = f(rate, curvature, noise, momentum)
        assert math.isclose(found, spread[0, 0], rel_tol=1e-6), (
            f"rate {rate}, curvature {curvature}, noise {noise}, momentum {momentum}: {found}, "
            f"step by step {spread[0, 0]}")
