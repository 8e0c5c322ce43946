"""Day 12 · A number that counts the arithmetic done with it, so that cost is read off, not guessed.

Put Counted numbers into any formula (also inside a Dual, or on day 13's tape) and the tally tells
how many operations ran. One + − × ÷ ** exp log sin cos tanh or change of sign counts as one.
Left out: memory, and time; a Python object costs far more than the addition it stands for.
"""

from llm.grad.dual import Dual, cos, exp, log, sin, tanh


class Tally:
    """The counter that all numbers made by it share."""

    def __init__(self):
        self.operations = 0

    def number(self, value):
        """A Counted number that reports here."""
        return Counted(value, self)


class Counted:
    """A float whose every operation adds one to its tally."""

    __slots__ = ("value", "tally")
    __array_ufunc__ = None

    def __init__(self, value, tally):
        self.value, self.tally = float(value), tally

    def did(self, value):
        """Count one operation and wrap its result."""
        self.tally.operations += 1
        return Counted(value, self.tally)

    def __add__(self, other):
        return self.did(self.value + plain(other))

    def __mul__(self, other):
        return self.did(self.value * plain(other))

    def __sub__(self, other):
        return self.did(self.value - plain(other))

    def __truediv__(self, other):
        return self.did(self.value / plain(other))

    def __pow__(self, other):
        return self.did(self.value ** plain(other))

    def __rpow__(self, other):
        return self.did(other ** self.value)

    def __rsub__(self, other):
        return self.did(other - self.value)

    def __rtruediv__(self, other):
        return self.did(other / self.value)

    def __neg__(self):
        return self.did(-self.value)

    __radd__, __rmul__ = __add__, __mul__

    def exp(self):
        return self.did(exp(self.value))

    def log(self):
        return self.did(log(self.value))

    def sin(self):
        return self.did(sin(self.value))

    def cos(self):
        return self.did(cos(self.value))

    def tanh(self):
        return self.did(tanh(self.value))

    def __float__(self):
        return self.value


def plain(x):
    """The float inside a Counted number; a float as it is."""
    return x.value if isinstance(x, Counted) else x


def operations(f, xs):
    """How many operations f(list of numbers) does at xs."""
    tally = Tally()
    f([tally.number(x) for x in xs])
    return tally.operations


def dual_operations(f, xs):
    """How many operations all len(xs) passes of `dual.gradient(f, xs)` do together.

    The slopes are counted numbers too, also those that are 0: a pass does not know which are.
    """
    tally = Tally()
    for i in range(len(xs)):
        f([Dual(tally.number(x), tally.number(float(j == i))) for j, x in enumerate(xs)])
    return tally.operations
