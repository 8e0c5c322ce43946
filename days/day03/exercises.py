"""Day 03 · Build: windows and diagonals by strides alone."""

import itertools

import numpy as np

from llm.tensors.ndarray import array


def windows(shape, strides, width):
    """(shape, strides) that show the last axis as all its windows of `width`, without a copy.

    An axis of T numbers has T − width + 1 windows that overlap; the new shape is
    (…, T − width + 1, width). Raise ValueError unless 1 ≤ width ≤ T. ::

        windows((6,), (1,), 3)         ->  ((4, 3), (1, 1))
        windows((2, 6), (6, 1), 4)     ->  ((2, 3, 4), (6, 1, 1))
    """
    raise NotImplementedError


def diagonal(shape, strides):
    """(shape, strides) of the diagonal of the last two axes, without a copy. ::

        diagonal((3, 3), (3, 1))       ->  ((3,), (4,))
        diagonal((2, 4, 3), (12, 3, 1))  ->  ((2, 3), (12, 4))
    """
    raise NotImplementedError


def _view(a, seen):
    shape, strides = seen
    return np.array(type(a)(a.buffer, shape, strides, a.offset).tolist(), int)


def check_windows(f):
    assert tuple(map(tuple, f((6,), (1,), 3))) == ((4, 3), (1, 1)), "the first example"
    x = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    for width, key in itertools.product((1, 3, 5), (slice(None), slice(None, None, -1))):
        a, y = array(x)[:, :, key].transpose(2, 0, 1), x[:, :, key].transpose(2, 0, 1)
        want = np.lib.stride_tricks.sliding_window_view(y, width, axis=-1)
        assert np.array_equal(_view(a, f(a.shape, a.strides, width)), want), f"width {width}"
    for width in (0, 8):
        try:
            f((7,), (1,), width)
        except ValueError:
            continue
        raise AssertionError(f"width {width} of an axis of 7 must raise ValueError")


def check_diagonal(f):
    assert tuple(map(tuple, f((3, 3), (3, 1)))) == ((3,), (4,)), "the first example"
    x = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    for order in itertools.permutations(range(3)):
        a, y = array(x).transpose(*order), x.transpose(order)
        want = np.diagonal(y, axis1=-2, axis2=-1)
        assert np.array_equal(_view(a, f(a.shape, a.strides)), want), f"axes in order {order}"
