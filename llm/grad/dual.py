"""Day 12 · Forward mode: numbers that carry their own derivative.

A dual number is v + s·ε with ε² = 0, ε ≠ 0. Put x + 1·ε into a formula and f(x) + f′(x)·ε comes
out, exact to rounding: no step, no truncation. Functions written with exp, log, sin, cos, tanh of
this file take floats, NumPy arrays, Duals (of floats, arrays or Duals), and the Counted numbers and
Values of count.py and scalar.py alike.

Left out: functions with kinks (relu, abs, max); and nested derivatives where an inner function
uses the outer variable ("perturbation confusion"), which needs one ε for each level.
"""

import math

import numpy as np


class Dual:
    """v + s·ε: a value and its slope with respect to the one input that was started with slope 1.

    Source: Griewank & Walther, Evaluating Derivatives (2008), section 3.1.
    """

    __slots__ = ("value", "slope")
    __array_ufunc__ = None  # makes numpy_scalar * dual call Dual.__rmul__

    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def __add__(self, other):
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    def __mul__(self, other):
        if isinstance(other, Dual):  # (a + a′ε)(b + b′ε) = ab + (a′b + ab′)ε, for a′b′ε² = 0
            return Dual(self.value * other.value,
                        self.slope * other.value + self.value * other.slope)
        return Dual(self.value * other, self.slope * other)

    def __sub__(self, other):
        if isinstance(other, Dual):
            return Dual(self.value - other.value, self.slope - other.slope)
        return Dual(self.value - other, self.slope)

    def __truediv__(self, other):
        if isinstance(other, Dual):  # q = a/b, and q′ follows from (qb)′ = a′
            q = self.value / other.value
            return Dual(q, (self.slope - q * other.slope) / other.value)
        return Dual(self.value / other, self.slope / other)

    def __pow__(self, k):
        if isinstance(k, Dual):
            return exp(k * log(self))
        if k == 0:
            return Dual(self.value**0, self.slope * 0.0)
        return Dual(self.value**k, k * self.value ** (k - 1) * self.slope)

    def __neg__(self):
        return Dual(-self.value, -self.slope)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other):
        return Dual(other - self.value, -self.slope)

    def __rtruediv__(self, other):
        return Dual(other) / self

    def __rpow__(self, base):
        return exp(self * log(base))

    def exp(self):
        y = exp(self.value)
        return Dual(y, y * self.slope)

    def log(self):
        return Dual(log(self.value), self.slope / self.value)

    def sin(self):
        return Dual(sin(self.value), cos(self.value) * self.slope)

    def cos(self):
        return Dual(cos(self.value), -sin(self.value) * self.slope)

    def tanh(self):
        y = tanh(self.value)
        return Dual(y, (1.0 - y * y) * self.slope)

    def sum(self, axis=None):
        """The sum over an axis, for Duals whose value and slope are arrays."""
        return Dual(self.value.sum(axis), self.slope.sum(axis))

    def __repr__(self):
        return f"Dual({self.value!r}, {self.slope!r})"


def derivative(f, x):
    """f′(x) of a function of one number, by one pass of dual numbers.

    Nest it for higher derivatives: derivative(lambda y: derivative(f, y), x) is f″(x).

    >>> derivative(lambda x: x * x * x, 2.0)
    12.0
    """
    return slope_of(f(Dual(x, 1.0)))


def gradient(f, xs):
    """All ∂f/∂xᵢ of a function of a list of n numbers, by n passes: one input is started at a time.

    f: list of n numbers → one number. Returns a list of n slopes. Cost: n times one dual pass.

    >>> gradient(lambda x: x[0] * x[1], [3.0, 5.0])
    [5.0, 3.0]
    """
    return [slope_of(f([Dual(x, 1.0 if j == i else 0.0) for j, x in enumerate(xs)]))
            for i in range(len(xs))]


def slope_of(y):
    """The slope of a result; a result that never met the input is a constant and has slope 0."""
    return y.slope if isinstance(y, Dual) else 0.0


def elementary(name):
    """A function that uses math for floats, NumPy for arrays, and a method of all else."""
    of_float, of_array = getattr(math, name), getattr(np, name)

    def apply(x):
        if isinstance(x, (np.ndarray, np.generic)):
            return of_array(x)
        if isinstance(x, (int, float)):
            return of_float(x)
        return getattr(x, name)()

    apply.__name__ = name
    apply.__doc__ = f"{name}(x) of a float, a NumPy array, or any number with a method {name}()."
    return apply


exp, log, sin, cos, tanh = map(elementary, ("exp", "log", "sin", "cos", "tanh"))
