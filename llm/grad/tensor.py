"""Day 15 · A tape for tensors: reverse-mode differentiation of NumPy code.

A `Tensor` is an array that may carry a gradient. `primitive(f, f_vjp)` lifts a pair of day 14 to
Tensors: it runs `f` on the arrays and writes down which VJP leads back, with what `f` saved.
`backward()` walks those records from the loss to the leaves, each after all that depend on it.

The record is used up as backward walks it, so memory falls on the way. Left out: second
derivatives, and a guard against changing a Tensor's data in place between forward and backward.
"""

import contextlib
from contextvars import ContextVar

import numpy as np

from llm.grad import more, rules, views
from llm.grad.lowering import twin_of
from llm.grad.walk import Node, backward, check_types

_recording = ContextVar("recording", default=True)


@contextlib.contextmanager
def no_grad():
    """Nothing is recorded in here: for validation and for generating text."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


class Tensor:
    """An array `data`, and after `backward()` its gradient `grad`, of the same shape and dtype.

    Only leaves (made by hand, with requires_grad=True) keep a gradient; calls of `backward` add to
    it until it is set to None. Integers become float32. `node` is how it was made, None in a leaf.
    `==` compares objects: for entries write x.data == y. Raises ValueError where integers are to
    have a gradient, and for what is not real numbers.
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "__weakref__")
    __array_ufunc__ = None                     # array + Tensor asks the Tensor, not NumPy

    def __init__(self, data, requires_grad=False):
        data = real(data)
        if data.dtype.kind != "f":
            if requires_grad:
                raise ValueError(f"only floats have gradients, and this is {data.dtype}: "
                                 "pass data.astype(np.float32)")
            data = data.astype(np.float32)
        self.data, self.requires_grad, self.grad, self.node = data, requires_grad, None, None

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    dtype = property(lambda self: self.data.dtype)
    T = property(lambda self: self.transpose())

    def __repr__(self):
        origin = f", from {self.node.name}" if self.node else ""
        return f"Tensor(shape={self.shape}, dtype={self.dtype}{origin})"

    def __add__(self, other):
        return add(self, like(other, self))

    def __radd__(self, other):
        return add(like(other, self), self)

    def __sub__(self, other):
        return sub(self, like(other, self))

    def __rsub__(self, other):
        return sub(like(other, self), self)

    def __mul__(self, other):
        return mul(self, like(other, self))

    def __rmul__(self, other):
        return mul(like(other, self), self)

    def __truediv__(self, other):
        return div(self, like(other, self))

    def __rtruediv__(self, other):
        return div(like(other, self), self)

    def __matmul__(self, other):
        return matmul(self, like(other, self))

    def __rmatmul__(self, other):
        return matmul(like(other, self), self)

    def __neg__(self):
        return mul(self, like(-1, self))

    def __pow__(self, exponent):
        if isinstance(exponent, Tensor):
            raise ValueError("a power is a plain number here; for x ** y write "
                             "ops.exp(y * ops.log(x))")
        return power(self, exponent=exponent)

    def __lt__(self, other):                   # comparisons give arrays of booleans
        return self.data < like(other, self)

    def __le__(self, other):
        return self.data <= like(other, self)

    def __gt__(self, other):
        return self.data > like(other, self)

    def __ge__(self, other):
        return self.data >= like(other, self)

    def sum(self, axis=None, keepdims=False):
        return total(self, axis=axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        out = self.sum(axis, keepdims)
        return out * (out.data.size / max(self.data.size, 1))

    def max(self, axis=None, keepdims=False):
        return largest(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape):
        return reshape(self, shape=unpacked(shape))

    def transpose(self, *axes):
        return transpose(self, axes=unpacked(axes) or None)

    def __getitem__(self, index):
        return take(self, index=index)

    def backward(self, grad=None):
        """Add d(self)/d(leaf) to the `.grad` of every leaf that self depends on.

        grad: what arrives from above, of self's shape; 1 where self is a single number.
        Raises ValueError if self is not recorded, or its record is used up, or grad does not fit.
        """
        backward(self, grad)


def unpacked(numbers):
    """x.reshape(2, 3) and x.reshape((2, 3)) mean the same."""
    return numbers[0] if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)) else numbers


def like(value, tensor):
    """A number takes the tensor's dtype: 0.5 * float32 stays float32."""
    return value if isinstance(value, Tensor) else real(value).astype(tensor.dtype, copy=False)


def real(value):
    """value as an array; None and text, which NumPy would turn into numbers, are refused."""
    if (array := np.asarray(value)).dtype.kind not in "fiub":
        raise ValueError(f"real numbers only, not {value!r} ({type(value).__name__})")
    return array


class primitive:
    """Lift a pair of array functions to Tensors: `linear = primitive(rules.linear, …)`.

    Positional arguments may be Tensors, arrays or None; keyword options go to `f` as they are, so
    a Tensor among them would get no gradient: that raises ValueError.
    """

    lowerable = True

    def __init__(self, f, f_vjp):
        self.pair, self.__name__, self.__doc__ = (f, f_vjp), f.__name__, f.__doc__

    def __call__(self, *inputs, **options):
        for name, value in options.items():
            if isinstance(value, Tensor):
                raise ValueError(f"{self.__name__}: pass the Tensor {name} of shape {value.shape} "
                                 "by position; options have no gradient")
        f, f_vjp = twin_of(self, self.pair)
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        data, saved = f(*arrays, **options)
        out = Tensor(data)
        if _recording.get():
            parents = [x.node or x if isinstance(x, Tensor) and x.requires_grad else None
                       for x in inputs]
            if any(parent is not None for parent in parents):
                check_types(self.__name__, inputs, out.dtype)
                out.requires_grad = True
                out.node = Node(self.__name__, f_vjp, saved, parents, out.shape, out.dtype)
        return out


add = primitive(rules.add, rules.add_vjp)
sub = primitive(rules.sub, rules.sub_vjp)
mul = primitive(rules.mul, rules.mul_vjp)
div = primitive(rules.div, rules.div_vjp)
matmul = primitive(rules.matmul, rules.matmul_vjp)
total = primitive(views.total, views.total_vjp)
reshape = primitive(views.reshape, views.reshape_vjp)
transpose = primitive(views.transpose, views.transpose_vjp)
take = primitive(views.take, views.take_vjp)
power = primitive(more.power, more.power_vjp)
largest = primitive(more.largest, more.largest_vjp)
