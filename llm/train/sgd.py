"""Day 17 · Gradient descent, momentum, Nesterov: one rate for all parameters.

An optimizer takes {name: Tensor} and has `step(rate)`, which changes the parameters in place from
their `.grad`, and `state_dict()`/`load_state_dict()`, which carry on a stopped run. Here too: the
best rates for a quadratic whose smallest and largest curvature are known.
Leaves out: a rate of its own for each parameter (day 18), and how the rate changes (day 19).
"""

import math

import numpy as np


class SGD:
    """v ← μv + g, then p ← p − rate · v; with nesterov, p ← p − rate · (g + μv).

    momentum: μ in [0, 1); 0 is plain gradient descent, without v. "Stochastic" is the gradient,
    not the step: it comes from a batch. Raises ValueError for μ outside, or nesterov without it.
    Source: Polyak (1964); Nesterov (1983), in the form of Sutskever et al. (2013), section 2.
    """

    def __init__(self, parameters, momentum=0.0, nesterov=False):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum} must be in [0, 1): from 1 on nothing is "
                             "forgotten and the steps grow without end")
        if nesterov and not momentum:
            raise ValueError("nesterov looks ahead along the momentum: pass momentum=0.9, say")
        self.parameters, self.momentum, self.nesterov = named(parameters), momentum, nesterov
        self.v = moments(self.parameters) if momentum else {}

    def step(self, rate):
        """Move every parameter that has a gradient."""
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            move = p.grad
            if self.momentum:
                v = self.v[name]
                v *= self.momentum
                v += p.grad
                move = p.grad + self.momentum * v if self.nesterov else v
            p.data -= rate * move

    def state_dict(self):
        """{"v.<name>": array}: the live arrays; empty without momentum."""
        return {f"v.{name}": array for name, array in self.v.items()}

    def load_state_dict(self, state):
        """Copy the velocities in. Raises ValueError, before any change, if they don't fit."""
        restore(self.state_dict(), state)


def best_descent(low, high):
    """The best (rate, factor) of plain descent where all curvatures are in [low, high].

    rate = 2/(low + high); the error shrinks by factor = (κ − 1)/(κ + 1) a step, κ = high/low.
    Raises ValueError unless 0 < low ≤ high. Source: Polyak, Introduction to Optimization (1987).
    """
    curvatures(low, high)
    return 2 / (low + high), (high - low) / (high + low)


def best_momentum(low, high):
    """The best (rate, momentum, factor) of momentum there: factor √momentum = (√κ − 1)/(√κ + 1).

    rate = 4/(√low + √high)². Raises ValueError unless 0 < low ≤ high. Source: Polyak (1964).
    """
    curvatures(low, high)
    a, b = math.sqrt(low), math.sqrt(high)
    factor = (b - a) / (b + a)
    return 4 / (a + b) ** 2, factor * factor, factor


def best_nesterov(low, high):
    """The best (rate, momentum, factor) of Nesterov's version there: factor 1 − 2/√(3κ + 1).

    rate = 4/(3·high + low), momentum = factor/(2 − factor). Raises ValueError unless 0 < low ≤
    high. Source: Lessard, Recht & Packard (2016), table 1; derived on day 17.
    """
    curvatures(low, high)
    factor = 1 - 2 / math.sqrt(3 * high / low + 1)
    return 4 / (3 * high + low), factor / (2 - factor), factor


def curvatures(low, high):
    """ValueError unless 0 < low ≤ high."""
    if not 0 < low <= high < math.inf:
        raise ValueError(f"curvatures must be 0 < low ≤ high, got {low} and {high}; where one is "
                         "0 there is a flat direction, and no rate is best for it")


def named(parameters):
    """A copy of {name: Tensor}. ValueError for anything but a dict, and for an empty one."""
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("an optimizer wants {name: Tensor}: pass model.named_parameters()")
    return dict(parameters)


def moments(parameters):
    """{name: zeros} for running sums: each of its parameter's shape and dtype, at least float32.

    float16 has 11 bits and ends at 65,504: a sum of small parts would stall, and squares overflow.
    """
    return {name: np.zeros_like(p.data, np.promote_types(p.dtype, np.float32))
            for name, p in parameters.items()}


def restore(mine, state, squares=()):
    """Copy arrays of `state` into those of `mine`.

    Raises ValueError, before any change, where names or shapes differ, an entry is no array of
    real numbers, or one whose name begins with one of `squares` is negative or NaN.
    """
    if mine.keys() != state.keys():
        odd = sorted(mine.keys() ^ state.keys())
        raise ValueError(f"optimizer state does not fit these parameters: {odd[:4]}")
    for key, array in mine.items():
        if array.shape != np.shape(state[key]):
            raise ValueError(f"optimizer state {key} has shape {np.shape(state[key])} and the "
                             f"parameter {array.shape}. Was it saved with another config?")
        if np.asarray(state[key]).dtype.kind not in "fiu":
            raise ValueError(f"optimizer state {key} holds something else than real numbers: it is "
                             "damaged")
        if key.startswith(squares) and not np.min(state[key], initial=0) >= 0:      # NaN is not
            raise ValueError(f"optimizer state {key} is a mean of squares and negative, or NaN: it "
                             "is damaged")
    for key, array in mine.items():
        array[...] = state[key]
