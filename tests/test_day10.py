"""Day 10 · Linear layers, activations, and one hidden layer that draws any curve."""

import math

import numpy as np
import pytest

from days.day10.run import measure
from llm.functions.dense import GELU_CUBIC, gelu, gelu_erf, linear, relu, sigmoid, silu, tanh
from llm.functions.hinges import least_squares, network, through

ALL = [relu, tanh, sigmoid, gelu, gelu_erf, silu]


def test_the_hand_example():
    x, w, b = np.array([1., 2]), np.array([[1., 0, -1], [2, 1, 0]]), np.array([0., 1, 1])
    assert linear(x, w, b).tolist() == [5, 3, 0]
    w1, b1, w2, b2 = through(np.array([0., 1, 3]), np.array([1., 3, 2]))
    assert (w1.tolist(), b1.tolist(), w2.tolist(), b2.tolist()) == (
        [[1, 1]], [0, -1], [[2], [-2.5]], [1])
    assert network(np.array([[0.], [1], [2], [3]]), w1, b1, w2, b2)[:, 0].tolist() == [1, 3, 2.5, 2]
    assert all(np.array_equal(a, b) for a, b in zip(through([0., 1, 3], [1., 3, 2]),
                                                    (w1, b1, w2, b2)))
    one_piece = network(np.array([[.5]]), *through(np.array([0., 1]), np.array([0., 1])))
    assert one_piece.item() - .5**2 == .25 == 1**2 / 8 * 2      # x² is missed by the whole bound


def test_published_values_of_gelu():
    assert gelu(1.0) == pytest.approx(.841192, abs=5e-7)
    assert gelu_erf(1.0) == pytest.approx(.841345, abs=5e-7)


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 5), (0,), (3, 0)])
def test_linear_takes_any_leading_axes(leading):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(*leading, 6)), rng.normal(size=(6, 3)), rng.normal(size=3)
    y = linear(x, w, b)
    assert y.shape == (*leading, 3)
    for place in np.ndindex(*leading):
        for j in range(3):
            assert y[(*place, j)] == pytest.approx(
                sum(x[(*place, i)] * w[i, j] for i in range(6)) + b[j])


def test_two_linear_layers_are_one():
    rng = np.random.default_rng(1)
    x, w1, w2 = rng.normal(size=(5, 4)), rng.normal(size=(4, 8)), rng.normal(size=(8, 3))
    b1, b2 = rng.normal(size=8), rng.normal(size=3)
    np.testing.assert_allclose(linear(linear(x, w1, b1), w2, b2),
                               linear(x, w1 @ w2, b1 @ w2 + b2), atol=1e-12)


def test_activations_equal_their_definitions():
    for x in np.linspace(-8, 8, 81).tolist():
        normal = .5 * math.erfc(-x / math.sqrt(2))
        assert relu(x) == max(x, 0)
        assert tanh(x) == pytest.approx((math.exp(2 * x) - 1) / (math.exp(2 * x) + 1), abs=1e-15)
        assert sigmoid(x) == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-14)
        assert silu(x) == pytest.approx(x / (1 + math.exp(-x)), rel=1e-14)
        assert gelu_erf(x) == pytest.approx(x * normal, rel=1e-14)
        inner = math.sqrt(2 / math.pi) * (x + .044715 * x**3)
        assert gelu(x) == pytest.approx(.5 * x * (1 + math.tanh(inner)), rel=1e-9, abs=1e-15)


def test_gelu_is_x_times_the_chance_that_noise_stays_below_x():
    noise = np.random.default_rng(2).normal(size=200_000)
    for x in (-1.5, -.3, .7, 2.):
        assert gelu_erf(x) == pytest.approx(x * (noise < x).mean(), abs=.01)


def test_gelu_forms_differ_by_less_than_5e_4():
    x = np.linspace(-20, 20, 40_001)
    assert 4e-4 < np.abs(gelu(x) - gelu_erf(x)).max() < 5e-4


@pytest.mark.parametrize("f", ALL)
def test_activations_keep_dtype_and_shape(f):
    for dtype in (np.float32, np.float64):
        for shape in ((), (0,), (3,), (2, 0), (2, 3, 4)):
            y = f(np.full(shape, -.5, dtype))
            assert y.dtype == dtype
            assert y.shape == shape


@pytest.mark.parametrize("f", ALL)
def test_lists_and_whole_numbers_are_taken_as_float64_where_the_function_leaves_the_integers(f):
    expected = f(np.array([-2.0, 0, 3]))
    for x in ([-2, 0, 3], [-2.0, 0.0, 3.0], np.array([-2, 0, 3])):
        y = f(x)
        assert np.array_equal(y, expected) and (f is relu or y.dtype == np.float64)


@pytest.mark.parametrize("f", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_inputs_are_harmless(f, dtype):
    x = np.array([-1000, -100, 0, 100, 1000], dtype)
    limits = {tanh: [-1, -1, 0, 1, 1], sigmoid: [0, 0, .5, 1, 1]}
    expected = limits.get(f, [0, 0, 0, 100, 1000])
    np.testing.assert_allclose(f(x), expected, atol=1e-30)


def test_tail_of_exact_gelu_does_not_cancel():
    assert gelu_erf(-10.0) == pytest.approx(-7.619853024160527e-23, rel=1e-12)  # −10·Φ(−10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_keeps_dtype_and_its_inputs(dtype):
    x, w, b = np.ones((2, 3), dtype), np.ones((3, 4), dtype), np.ones(4, dtype)
    y = linear(x, w, b)
    y += 1
    assert y.dtype == dtype
    assert all((array == 1).all() for array in (x, w, b))


def test_linear_takes_strided_views():
    x, w = np.arange(24.).reshape(4, 6), np.arange(12.).reshape(2, 6)
    np.testing.assert_allclose(linear(x[:, ::-1], w.T), x[:, ::-1].copy() @ w.T)


@pytest.mark.parametrize("count", [2, 3, 10, 65])
def test_a_network_goes_through_any_points(count):
    rng = np.random.default_rng(count)
    x, y = np.sort(rng.uniform(-3, 3, count)), rng.normal(size=count)
    np.testing.assert_allclose(network(x[:, None], *through(x, y))[:, 0], y, atol=1e-9)
    between = rng.uniform(x[0], x[-1], 50)
    np.testing.assert_allclose(network(between[:, None], *through(x, y))[:, 0],
                               np.interp(between, x, y), atol=1e-9)
    assert network(np.array([[-9.]]), *through(x, y)) == pytest.approx(y[0])


def test_fitted_hinges_are_never_worse_in_the_mean_square():
    grid = np.linspace(0, 3, 301)
    y = np.exp(np.sin(3 * grid))
    for m in (1, 3, 12):
        points = np.linspace(0, 3, m + 1)
        drawn = network(grid[:, None], *through(points, np.interp(points, grid, y)))[:, 0]
        parts = least_squares(points[:-1], grid, y)
        lists = least_squares(*(a.tolist() for a in (points[:-1], grid, y)))
        assert all(np.array_equal(a, b) for a, b in zip(parts, lists))
        fitted = network(grid[:, None], *parts)[:, 0]
        assert np.mean((fitted - y) ** 2) <= np.mean((drawn - y) ** 2)


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match=r"x \(2, 3\) does not fit w \(4, 5\)"):
        linear(np.zeros((2, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"x \(\) "):
        linear(np.zeros(()), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"w \(4,\)"):
        linear(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"b \(4,\) does not fit w \(4, 5\)"):
        linear(np.zeros((2, 4)), np.zeros((4, 5)), np.zeros(4))
    with pytest.raises(ValueError, match=r"b \(1,\)"):
        linear(np.zeros((2, 4)), np.zeros((4, 5)), np.zeros(1))
    with pytest.raises(ValueError, match=r"x \(3,\) and y \(2,\)"):
        through(np.zeros(3), np.zeros(2))
    for knots, x, y in ((3, 4, 5), ((3, 1), 4, 4), (3, (4, 1), (4, 1))):
        with pytest.raises(ValueError, match=r"least_squares: knots \(3.* x \(4.* y \([45]"):
            least_squares(np.zeros(knots), np.zeros(x), np.zeros(y))
    with pytest.raises(ValueError, match="rise"):
        through(np.array([0., 0]), np.array([1., 2]))


def test_error_falls_with_the_square_of_the_hinges():
    result = measure(fast=True, seed=0)
    assert all(w <= b * (1 + 1e-9) for w, b in zip(result.worst, result.bound))
    assert result.worst[-2] / result.worst[-1] == pytest.approx(4, rel=.05)
    assert all(f <= d for f, d in zip(result.rms_fitted, result.rms))
    assert result.tanh_form_error < 5e-4 < result.matched_error
    assert result.closest_cubic == GELU_CUBIC


def test_gelu_of_numbers_whose_squares_overflow():
    x = np.array([-3e38, -1e20, 1e20, 3e38], np.float32)
    np.testing.assert_array_equal(gelu(x), np.array([0, 0, 1e20, 3e38], np.float32))


def test_gelu_erf_keeps_its_digits_far_below_zero():
    exact = -8 * 0.5 * math.erfc(8 / math.sqrt(2))
    assert gelu_erf(np.array([-8.0]))[0] == pytest.approx(exact, rel=1e-12, abs=0)
