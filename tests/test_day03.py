"""Day 03: views, broadcasting, reductions and products over any strides agree with NumPy."""

import itertools
import json

import numpy as np
import pytest

from days.day03 import loops, run
from days.harness import plain
from llm.tensors import strides as st
from llm.tensors import walk
from llm.tensors.ndarray import Array, array, full
from llm.tensors.view import View

DTYPES = (np.float32, np.float64, np.int64)


def numpy_of(a):
    """Our array as NumPy's, by way of our own packed copy."""
    return a.contiguous(always=True).buffer.reshape(a.shape)


def random_pair(rng, shape=None, dtype=None):
    """The same small whole numbers in NumPy and in ours: sums and products are then exact."""
    if shape is None:
        shape = tuple(rng.integers(0 if rng.random() < .1 else 1, 5, rng.integers(0, 5)))
    dtype = DTYPES[rng.integers(3)] if dtype is None else dtype
    x = rng.integers(-9, 10, tuple(int(n) for n in shape)).astype(dtype)
    return x, array(x)


def random_slice(rng, n):
    step = int(rng.choice([-3, -2, -1, 1, 2, 3]))
    ends = [None if rng.random() < .3 else int(rng.integers(-n - 2, n + 3)) for _ in "ab"]
    return slice(*ends, step)


def random_view(rng, x, a):
    """One more view of both: a transpose, or a key of slices, indices, None and `...`."""
    if rng.random() < .4:
        axes = tuple(int(i) for i in rng.permutation(x.ndim))
        return (x.transpose(axes), a.transpose(*axes)) if axes else (x, a)
    count = int(rng.integers(0, x.ndim + 1))
    last = rng.random() < .2                            # [..., key] is about the last axes
    key = [...] if last else []
    for n in x.shape[x.ndim - count:] if last else x.shape[:count]:
        part = int(rng.integers(-n, n)) if n and rng.random() < .2 else random_slice(rng, n)
        key += [None] * (rng.random() < .1) + [part]
    return x[tuple(key)], a[tuple(key)]


def same(x, a):
    assert a.shape == x.shape and a.dtype == x.dtype
    assert np.array_equal(numpy_of(a), x)


def test_the_hand_example():
    a = array([[0, 1, 2], [3, 4, 5]])
    assert (a.shape, a.strides, a.offset) == ((2, 3), (3, 1), 0)
    assert (a.T.shape, a.T.strides, a.T.offset) == ((3, 2), (1, 3), 0)
    b = a[:, ::-2]
    assert (b.shape, b.strides, b.offset) == ((2, 2), (3, -2), 2)
    assert b.tolist() == [[2, 0], [5, 3]]
    assert a.reshape(3, 2).strides == (2, 1) and a.reshape(3, 2).buffer is a.buffer
    assert st.reshaped((3, 2), (1, 3), (6,)) is None
    assert a.T.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert (a + array([10, 20, 30])).tolist() == [[10, 21, 32], [13, 24, 35]]
    assert a.sum(axis=0).tolist() == [3, 5, 7]
    assert a.sum(axis=1, keepdims=True).tolist() == [[3], [12]]
    assert (a @ a.T).tolist() == [[5, 14], [14, 50]]


def test_three_thousand_chains_of_views_match_numpy_in_values_and_strides():
    rng = np.random.default_rng(1)
    for _ in range(3000):
        x, a = random_pair(rng)
        buffer = a.buffer
        for _ in range(rng.integers(1, 4)):
            x, a = random_view(rng, x, a)
        assert a.buffer is buffer                          # nothing was copied
        same(x, a)
        if x.size:
            ours = [s for n, s in zip(a.shape, a.strides) if n > 1]
            theirs = [s // x.itemsize for n, s in zip(x.shape, x.strides) if n > 1]
            assert ours == theirs


def test_reshape_copies_exactly_when_no_strides_exist():
    rng = np.random.default_rng(2)
    seen = {True: 0, False: 0}
    for _ in range(3000):
        x, a = random_view(rng, *random_view(rng, *random_pair(rng)))
        factors = [int(n) for n in rng.permutation([*x.shape, 1])]
        cut = rng.integers(0, len(factors))
        shape = [int(np.prod(factors[:cut])), *factors[cut:]]
        if rng.random() < .3 and 0 not in shape:
            shape[rng.integers(len(shape))] = -1
        same(x.reshape(shape), a.reshape(*shape))
        full_shape = x.reshape(shape).shape
        # brute force: strides exist if every step along an axis moves by the same amount
        where = numpy_of(Array(np.arange(a.buffer.size), a.shape, a.strides, a.offset))
        where = where.reshape(full_shape)
        even = all(len(np.unique(np.diff(where, axis=i))) <= 1 for i in range(where.ndim))
        assert (st.reshaped(a.shape, a.strides, full_shape) is not None) == even
        assert even or not np.shares_memory(x.reshape(shape), x)
        seen[even] += 1
    assert min(seen.values()) > 100


def test_two_thousand_broadcast_operations_match_numpy():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        shape = rng.integers(1, 5, rng.integers(0, 5))
        operands = []
        for _ in "ab":
            mine = np.where(rng.random(len(shape)) < .3, 1, shape)[rng.integers(0, len(shape) + 1):]
            x, a = random_pair(rng, mine[::-1])
            operands.append((x.T, a.T))
        (x, a), (y, b) = operands
        same(x + y, a + b)
        same(x - y, a - b)
        same(x * y, a * b)
        y, b = y + y.dtype.type(20), b + 20                # no division by zero
        ratio = a / b
        assert ratio.dtype == (x / y).dtype and np.allclose(numpy_of(ratio), x / y, 1e-6, 0)


def test_python_and_numpy_numbers_on_either_side():
    x, a = random_pair(np.random.default_rng(4), (2, 3), np.float32)
    for number in (2, 1.5, np.float32(3), np.float64(.5)):
        for ours, theirs in ((a + number, x + number), (number - a, number - x),
                             (number * a, number * x), (a / number, x / number), (-a, -x)):
            same(theirs, ours)


def test_a_product_takes_a_numpy_array_and_a_sum_a_list_of_axes():
    x, a = random_pair(np.random.default_rng(8), (2, 3), np.float32)
    same(x @ x.T, a @ x.T)
    same(np.asarray(x.sum(axis=(0, 1))), a.sum(axis=[0, 1]))


def test_two_thousand_reductions_match_numpy():
    rng = np.random.default_rng(5)
    for _ in range(2000):
        x, a = random_view(rng, *random_pair(rng))
        some = tuple(int(i) for i in rng.permutation(x.ndim)[:rng.integers(0, x.ndim + 1)])
        axis = None if rng.random() < .3 else some[0] if len(some) == 1 else some
        keep = bool(rng.random() < .5)
        same(np.asarray(x.sum(axis=axis, keepdims=keep)), a.sum(axis, keep))
        if x.size:
            same(np.asarray(x.max(axis=axis, keepdims=keep)), a.max(axis, keep))
            same(np.asarray(x.min(axis=axis, keepdims=keep)), a.min(axis, keep))
            mean = x.mean(axis=axis, keepdims=keep)
            assert np.allclose(numpy_of(a.mean(axis, keep)), mean, 1e-5, 1e-6)


def test_a_thousand_batched_products_match_numpy():
    rng = np.random.default_rng(6)
    for _ in range(1000):
        m, k, n = rng.integers(0 if rng.random() < .1 else 1, 5, 3)
        batch = rng.integers(1, 4, rng.integers(0, 3))
        left = (*batch, m, k) if rng.random() < .8 else (k,)
        right = (*np.where(rng.random(len(batch)) < .4, 1, batch), k, n)
        right = right if rng.random() < .8 else (k,)
        (x, a), (y, b) = random_pair(rng, left), random_pair(rng, right)
        same(np.asarray(x @ y), a @ b)
        if x.ndim > 1:
            x, a = x.swapaxes(-1, -2).copy(), array(x.swapaxes(-1, -2))
            back = (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
            same(np.asarray(x.transpose(back) @ y), a.transpose(*back) @ b)


def test_a_view_sees_what_is_written_through_another():
    a = array([[1, 2, 3], [4, 5, 6]])
    a.T[0] = array([7, 8])
    assert a.tolist() == [[7, 2, 3], [8, 5, 6]]
    a[:, 1:] = a[:, :-1]                       # overlapping: must read before it writes
    assert a.tolist() == [[7, 7, 2], [8, 8, 5]]
    a[...] = 0.9
    assert a.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_float32_sums_do_not_stall():
    ones = full((1,), 1.0).broadcast_to((2**25,))
    assert ones.sum().item() == 2**25          # adding ones in float32 stops at 2**24
    assert ones.sum().dtype == np.float32


def test_the_order_of_axes_does_not_change_a_sum():
    x, a = random_pair(np.random.default_rng(7), (3, 4, 5), np.float64)
    for order in itertools.permutations(range(3)):
        out = full((1, 4, 1), 0, "float64")
        run.walk_sum(a, out, list(order))
        same(x.sum((0, 2), keepdims=True), out)
    assert walk.memory_order(a.T.strides) == [2, 1, 0]


def test_empty_arrays_and_arrays_without_axes():
    assert array([]).shape == (0,) and array([[], []]).shape == (2, 0)
    assert array([[], []]).sum(axis=1).tolist() == [0, 0]
    assert array(3.5).shape == () and array(3.5).tolist() == 3.5 and len(array([[1, 2]])) == 1
    assert (array(2) * array(3)).item() == 6
    assert array([[], []]).reshape(0, 7).shape == (0, 7)
    nothing = array([[1, 2, 3], [4, 5, 6]])[:, :0]             # no elements to lie apart
    assert nothing.is_contiguous is True and nothing.contiguous() is nothing
    assert (full((2, 0), 1) @ full((0, 3), 1)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert np.isnan(array([np.nan, 1.0]).max().item()) and np.isnan(array([]).mean().item())


def test_repr_shows_values_shape_and_dtype():
    assert repr(array([[1, 2], [3, 4]])) == "Array([[1, 2], [3, 4]], shape=(2, 2), dtype=int64)"
    assert repr(full((6,), 1.5)) == (
        "Array([1.5, 1.5, 1.5, 1.5, 1.5, 1.5], shape=(6,), dtype=float32)")
    assert repr(full((7,), 1.5)) == (
        "Array([1.5, 1.5, 1.5, …, 1.5, 1.5, 1.5], shape=(7,), dtype=float32)")


@pytest.mark.parametrize("wrong, message", [
    (lambda a: a + full((4, 2), 1), r"\(2, 3\) and \(4, 2\) do not broadcast"),
    (lambda a: a.broadcast_to((3,)), r"\(2, 3\) cannot be shown as \(3,\)"),
    (lambda a: a.reshape(4, 2), r"cannot reshape 6 elements to \(4, 2\)"),
    (lambda a: a.reshape(-1, -1), r"at most one -1"),
    (lambda a: a.reshape(-1, 0), r"6 elements"),
    (lambda a: a.reshape((3, 2)), r"cannot reshape to \(\(3, 2\),\): give whole numbers"),
    (lambda a: a.reshape(3.0, 2), "give whole numbers"),
    (lambda a: a.transpose(0, 0), r"\(2, 3\): name each axis once"),
    (lambda a: a.sum(axis=2), r"axis 2 of shape \(2, 3\)"),
    (lambda a: a.sum(axis=(0, -2)), r"each once"),
    (lambda a: a[2], r"index 2 is out of range for axis 0 of shape \(2, 3\)"),
    (lambda a: a[0, 0, 0], r"3 indices for an array of shape \(2, 3\)"),
    (lambda a: a["x"], r"use ints, slices"),
    (lambda a: a[True], r"index True for shape \(2, 3\): use ints, slices"),
    (lambda a: a[..., ...], r"two ... in the key for an array of shape \(2, 3\)"),
    (lambda a: a @ a, r"cannot multiply \(2, 3\) @ \(2, 3\): 3 columns against 2 rows"),
    (lambda a: a @ array(2.0), r"use \* with a number"),
    (lambda a: a @ 2, r"\(2, 3\) @ \(\); use \* with a number"),
    (lambda a: a[:0].max(axis=0), r"no largest or smallest of nothing: shape \(0, 3\)"),
    (lambda a: a.item(), r"the shape is \(2, 3\)"),
    (lambda a: len(array(1)), "no length"),
    (lambda a: array([[1, 2], [3]]), "ragged"),
    (lambda a: array([[1, 2], 3]), "ragged"),
    (lambda a: array([1, [2, 3]]), "ragged"),
    (lambda a: array(np.zeros((2, 2), np.int8)), "int8"),
    (lambda a: View(a.buffer, (2, 4), (3, 1)), r"positions 0 to 6 of a buffer of 6"),
])
def test_what_does_not_fit_is_told_with_its_shapes(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(array([[0, 1, 2], [3, 4, 5]]))


def test_every_walk_of_the_run_gives_the_same_sum():
    result = run.measure(fast=True, seed=0)
    assert result.largest_difference < 1e-6
    assert [row[0] for row in result.sweep] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert result.ns.keys() - result.numpy_ns.keys() == {
        name + ", index order" for name in
        ("a.T", "padded.T", "a[:256].T", "padded[:256].T", "a[:1], repeated")}
    assert not result.gathers["unsigned"] and not result.gathers["gap, four sums"]
    json.dumps(plain(result.__dict__))


def test_loops_before_and_after_their_repair_add_the_same_numbers():
    x = np.arange(1003, dtype=np.float32)
    for loop in (loops.signed, loops.unsigned):
        assert loop(x, 3, 1000) == x[3:].sum(dtype=np.float64)
    for loop in (loops.one_sum, loops.four_sums, loops.four_sums_free):
        assert loop(x, 3, 2, 499) == x[3:3 + 998:2].sum(dtype=np.float64)
        assert loop(x, 1002, -1, 999) == x[4:].sum(dtype=np.float64)


def test_float32_adds_up_in_float64():
    ones = full((2**24 + 2,), 1)
    assert ones.sum().item() == 2**24 + 2


def test_a_product_of_float32_adds_up_in_float64():
    far = Array(np.array([2.0**24] + [1.0] * 9, np.float32), (1, 10))
    product = far @ full((10, 1), 1)
    assert product.dtype == np.float32
    assert product.item() == float(np.float32(2**24 + 9))


def test_a_view_that_repeats_elements_cannot_be_written():
    source = array([1.0, 2.0])
    wide = source.broadcast_to((3, 2))
    with pytest.raises(ValueError, match="several places"):
        wide[0] = 5
    assert source.tolist() == [1.0, 2.0]
    copy = wide.contiguous(always=True)
    copy[0] = 5
    assert copy.tolist() == [[5.0, 5.0], [1.0, 2.0], [1.0, 2.0]]


def test_a_part_of_a_repeating_view_cannot_be_written_either():
    source = array([[1.0, 2.0]])
    wide = source.broadcast_to((3, 2))
    for part in (wide[1:2], wide[1], wide[0].reshape(2, 1), wide[1].T):
        with pytest.raises(ValueError, match="several places"):
            part[0] = 5                                     # else all rows and the source change
    assert source.tolist() == [[1.0, 2.0]]
    source.broadcast_to((1, 2))[0] = 5                      # nothing is repeated here
    assert source.tolist() == [[5.0, 5.0]]


def test_a_view_whose_first_element_lies_before_the_buffer_is_refused():
    with pytest.raises(ValueError, match="positions -1 to 1"):
        View(np.zeros(3, np.float32), (3,), strides=(-1,), offset=1)
