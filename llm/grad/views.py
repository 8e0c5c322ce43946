"""Day 15 · Pairs that only move numbers: sum, reshape, transpose, take.

None of these computes anything but sums, so their VJPs only move gradients back: what was summed
is spread, what was picked is put back among zeros. Left out: joining arrays (`cat` in more.py).
"""

import numpy as np

from llm.functions import sums


def total(x, axis=None, keepdims=False):
    """The sum over `axis` (an int, a tuple, or None for all), added up in float64."""
    return sums.total(x, axis, keepdims), (x.shape, None if keepdims or not x.ndim else axis)


def total_vjp(dout, shape, axis):
    if axis is not None:
        dout = np.expand_dims(dout, axis)
    return (np.broadcast_to(dout, shape),)


def reshape(x, shape):
    """The same numbers in the same order under another shape."""
    return x.reshape(shape), (x.shape,)


def reshape_vjp(dout, shape):
    return (dout.reshape(shape),)


def transpose(x, axes=None):
    """Axes in another order; reversed where none is given. Negative axes count from the end."""
    axes = range(x.ndim)[::-1] if axes is None else [range(x.ndim)[axis] for axis in axes]
    return x.transpose(axes), (axes,)


def transpose_vjp(dout, axes):
    """axes[i] is where axis i came from; the inverse permutation is what sorts them."""
    return (dout.transpose(np.argsort(axes)),)


def take(x, index):
    """x[index]; an index picked twice gets both gradients."""
    return np.asarray(x[index]), (x.shape, index)


def take_vjp(dout, shape, index):
    dx = np.zeros(shape, dout.dtype)
    np.add.at(dx, index, dout)
    return (dx,)
