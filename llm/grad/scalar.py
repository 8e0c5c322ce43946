"""Day 13 · Reverse mode: a tape of scalars that gives all derivatives of one result in one sweep.

Every operation makes a Value that remembers which Values it came from and the local derivative
along each of those edges. `backward` visits the nodes in reverse topological order and pushes
gradients along the edges. It uses no recursion: a chain of 10,000 (or a million) nodes works.

Left out: arrays (day 15), second derivatives, exponents that are Values, kinks.
"""

from llm.grad.dual import cos, exp, log, sin, tanh


class Value:
    """One scalar of a computation, with its place in the graph.

    data: the number. grad: ∂(result)/∂(this), filled in by `result.backward()`; it accumulates in
    leaves (Values nobody computed) until set to 0.0 again, and starts afresh in all others.
    parents: the Values it was computed from. slopes: ∂(this)/∂(parent), one for each parent.
    Source: Griewank & Walther, Evaluating Derivatives (2008), section 3.2.
    """

    __slots__ = ("data", "grad", "parents", "slopes")
    __array_ufunc__ = None  # makes numpy_scalar * value call Value.__rmul__

    def __init__(self, data, parents=(), slopes=()):
        self.data, self.grad = plain(data), 0.0
        self.parents, self.slopes = parents, slopes

    def __add__(self, other):
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + plain(other), (self,), (1.0,))

    def __mul__(self, other):
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        other = plain(other)
        return Value(self.data * other, (self,), (other,))

    def __sub__(self, other):
        if isinstance(other, Value):
            return Value(self.data - other.data, (self, other), (1.0, -1.0))
        return Value(self.data - plain(other), (self,), (1.0,))

    def __truediv__(self, other):  # two operations, a reciprocal and a product
        return self * (other if isinstance(other, Value) else plain(other)) ** -1

    def __pow__(self, k):
        if isinstance(k, Value):
            raise ValueError("a Value can be raised to a plain number only; for x ** y with a "
                             "Value y write (y * x.log()).exp()")
        k = plain(k)
        if isinstance(self.data, (int, float)) and self.data < 0 and k % 1:
            raise ValueError(f"({self.data}) ** {k} is not a real number: only a whole power of a "
                             "negative number is")
        if k == 0:
            return Value(self.data**0, (self,), (0.0,))
        return Value(self.data**k, (self,), (k * self.data ** (k - 1),))

    def __neg__(self):
        return Value(-self.data, (self,), (-1.0,))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other):
        return Value(plain(other) - self.data, (self,), (-1.0,))

    def __rtruediv__(self, other):
        return other * self**-1

    def exp(self):
        y = exp(self.data)
        return Value(y, (self,), (y,))

    def log(self):
        return Value(log(self.data), (self,), (1.0 / self.data,))

    def sin(self):
        return Value(sin(self.data), (self,), (cos(self.data),))

    def cos(self):
        return Value(cos(self.data), (self,), (-sin(self.data),))

    def tanh(self):
        y = tanh(self.data)
        return Value(y, (self,), (1.0 - y * y,))

    def backward(self):
        """Add ∂self/∂leaf to the grad of every leaf that self depends on."""
        nodes = order(self)
        for node in nodes:
            if node.parents:
                node.grad = 0.0  # what an earlier call left here is not part of this one
        self.grad = self.grad + 1.0
        for node in reversed(nodes):
            for parent, slope in zip(node.parents, node.slopes):
                parent.grad = parent.grad + slope * node.grad

    def __repr__(self):
        return f"Value({self.data!r}, grad={self.grad!r})"


def plain(number):
    """A NumPy scalar as Python's int or float, so that uint8 does not wrap at 255; else itself.

    Raises ValueError for an array of several numbers.
    """
    if not hasattr(number, "item"):
        return number
    if number.size != 1:
        raise ValueError(f"a Value is one number, and this array has shape {number.shape}: make a "
                         "Value of each entry, or take day 15's Tensor")
    return number.item()


def order(result):
    """All nodes below `result`, each after every node it was computed from.

    Depth first with a stack of our own. A node is pushed back, marked, under its parents: when it
    comes up again all of them have been listed, and it is listed itself.
    """
    listed, seen, stack = [], set(), [(result, False)]
    while stack:
        node, parents_listed = stack.pop()
        if parents_listed:
            listed.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return listed


def gradient(f, xs):
    """All ∂f/∂xᵢ of a function of a list of n numbers, by one forward and one backward sweep.

    f: list of n numbers → one number. Returns a list of n slopes. Cost: at most five times the
    operations of f, whatever n is (a quotient counts as two).
    Source: Baur & Strassen (1983), inequality 1, where only products and quotients are counted.

    >>> gradient(lambda x: x[0] * x[1], [3.0, 5.0])
    [5.0, 3.0]
    """
    leaves = [Value(x) for x in xs]
    result = f(leaves)
    if isinstance(result, Value):  # else f is a constant, and all slopes stay 0
        result.backward()
    return [leaf.grad for leaf in leaves]
