"""Day 12 · Derivatives: claims about finite differences, gradient checks and dual numbers."""

import importlib
import math

import numpy as np
import pytest

from days.day12.steps import error, float32_formula, observed_rounding, predicted_step
from llm.data.text import Corpus
from llm.grad.check import STEP, check_pair, check_twin, numerical_gradient
from llm.grad.count import Tally, dual_operations, operations
from llm.grad.dual import Dual, cos, derivative, exp, gradient, log, sin, tanh


def scaled_tanh(x, w, ids=None):
    """A pair for the checks: out = tanh(x)·w."""
    y = np.tanh(x)
    return y * w, (y, w)


def scaled_tanh_vjp(dout, y, w):
    return dout * w * (1 - y * y), dout * y, None


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_hand_example_by_dual_numbers():
    y = Dual(2.0, 1.0) * Dual(2.0, 1.0) * Dual(2.0, 1.0) + 3.0 * Dual(2.0, 1.0)
    assert (y.value, y.slope) == (14.0, 15.0)


def test_the_hand_example_by_finite_differences():
    f = lambda x: x**3 + 3 * x
    assert (f(2.5) - f(2.0)) / 0.5 == 18.25
    assert (f(2.5) - f(1.5)) / 1.0 == 15.25  # h²·f‴/6 = .25 · 6/6 too much
    assert numerical_gradient(lambda x: f(x[0]), np.array([2.0]))[0] == pytest.approx(15, abs=1e-9)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4), (0,), (3, 0)])
def test_numerical_gradient_of_a_weighted_sum_is_the_weights(rng, shape):
    x, w = np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
    found = numerical_gradient(lambda z: np.sum(z * w), x)
    assert found.shape == shape
    np.testing.assert_allclose(found, w, atol=1e-9)


def test_x_is_restored_bit_for_bit_also_when_f_fails(rng):
    x = rng.standard_normal((50, 40)).T[::2] * 1e3
    before = x.copy()
    numerical_gradient(lambda z: np.sum(np.sin(z)), x)
    assert x.tobytes() == before.tobytes()
    with pytest.raises(ZeroDivisionError):
        numerical_gradient(lambda z: 1 / 0, x)
    assert x.tobytes() == before.tobytes()


def test_f_may_hold_x_itself(rng):
    p = rng.standard_normal(5)
    np.testing.assert_allclose(numerical_gradient(lambda _: np.sum(p**2), p), 2 * p, atol=1e-8)


def test_the_step_grows_with_the_entry():
    for x in (1e8, -1e-8, 3.0):
        found = numerical_gradient(lambda z: z[0] ** 2, np.array([x]))[0]
        assert found == pytest.approx(2 * x, rel=1e-8, abs=1e-9)


def test_a_step_that_moves_an_entry_on_one_side_only_is_not_lost():
    for x in (1.0, -1.0):            # the numbers below 1 in size are twice as dense as those above
        x, step = np.array([x]), 0.8 * 2.0**-53
        assert (x + step == x).item() != (x - step == x).item()
        assert numerical_gradient(lambda z: z[0], x, step) == 1


def test_central_differences_miss_by_h_squared_f3_over_6_and_forward_by_h_f2_over_2():
    x, h = np.array([0.7]), 1e-3
    miss = numerical_gradient(lambda z: np.sin(z[0]), x, step=h)[0] - math.cos(x[0])
    assert miss == pytest.approx(-math.cos(x[0]) * h**2 / 6, rel=1e-3)
    assert error("central", x, h) == pytest.approx(h**2 / 6, rel=1e-3)  # of exp, relative to exp
    assert error("forward", x, h) == pytest.approx(h / 2, rel=1e-3)


def test_the_predicted_step_is_where_truncation_and_rounding_add_up_to_the_least():
    for kind, total in (("central", lambda h, u: h**2 / 6 + u / h),
                        ("forward", lambda h, u: h / 2 + 2 * u / h)):
        best, u = predicted_step(kind, "float64"), 2.0**-53
        assert all(total(best, u) < total(best * k, u) for k in (0.97, 1.03))
    assert total(2 * best, u) / total(best, u) == pytest.approx(1.25)  # forward: 5/4
    central, best = lambda h: h**2 / 6 + u / h, predicted_step("central", "float64")
    assert central(2 * best) / central(best) == pytest.approx(5 / 3)  # the note's 1.67


def test_a_rounding_error_of_c_units_over_h_is_found_again():
    steps = np.logspace(-9, 0, 91)
    curve = steps**2 / 6 + 0.3 * 2.0**-53 / steps
    c, step = observed_rounding("central", "float64", steps, curve, steps[np.argmin(curve)])
    assert c == pytest.approx(0.3, rel=1e-3)
    assert step == pytest.approx((0.9 * 2.0**-53) ** (1 / 3), rel=1e-3)


@pytest.mark.parametrize("f", [
    lambda x: x * x * x - 2 * x + 1, lambda x: (1 + x) / (2 - x * x), lambda x: 3 / x - x / 7,
    lambda x: (x - 0.3) * (x + 2) / (x - 4),
    lambda x: x**-2.5, lambda x: 2**x, lambda x: x**x, lambda x: x**0, lambda x: -x,
    lambda x: exp(sin(x)) * cos(x), lambda x: log(1 + exp(-x)), lambda x: tanh(tanh(x)) - x,
    lambda x: 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x**3)))])
def test_dual_numbers_agree_with_finite_differences(rng, f):
    for x in rng.uniform(0.2, 1.2, 5):
        x = float(x)
        measured = numerical_gradient(lambda z: f(float(z[0])), np.array([x]))[0]  # noqa: B023
        assert derivative(f, x) == pytest.approx(measured, rel=1e-8, abs=1e-9)
        assert getattr(f(Dual(x, 1.0)), "value", 1.0) == pytest.approx(f(x), rel=1e-15)


def test_gradient_by_n_passes_agrees_with_finite_differences(rng):
    f = lambda x: x[0] * tanh(x[1] * x[2]) / x[3] + exp(x[0] - x[3]) * sin(x[1])
    for _ in range(20):
        x = rng.uniform(0.5, 2.0, 4)
        np.testing.assert_allclose(gradient(f, x.tolist()), numerical_gradient(f, x), rtol=1e-7)


def test_duals_of_duals_give_higher_derivatives():
    second = derivative(lambda y: derivative(lambda x: exp(2 * x) + x**3, y), 0.5)
    assert second == pytest.approx(4 * math.exp(1.0) + 3.0, rel=1e-14)


def test_duals_of_arrays_stay_in_their_dtype(rng):
    x = rng.uniform(0.1, 1, 6).astype(np.float32)
    y = np.float32(2) * tanh(Dual(x, np.ones_like(x))) + x
    assert y.value.dtype == y.slope.dtype == np.float32
    assert exp(np.float32(1)).dtype == np.float32
    total = (np.arange(6.0) * Dual(2.0, 1.0)).sum()
    assert (total.value, total.slope) == (30.0, 15.0)


def test_a_constant_has_slope_zero():
    assert derivative(lambda x: 5.0, 1.0) == 0.0
    assert gradient(lambda x: x[0] * 2.0, [3.0, 4.0]) == [2.0, 0.0]
    assert gradient(lambda x: 1.0, []) == []


def test_counted_numbers_count_every_operation():
    tally = Tally()
    x = tally.number(2.0)
    y = 1 / (3 - exp(-x) * 2 + x**3) - sin(x) / cos(x) + tanh(log(x + 1))
    assert tally.operations == 15
    assert float(y) == pytest.approx(1 / (3 - math.exp(-2) * 2 + 8) - math.tan(2)
                                     + math.tanh(math.log(3)))


def test_counted_exponents_count_and_a_power_of_two_duals_costs_eight():
    assert operations(lambda x: 2.0 ** x[0], [3.0]) == 1
    assert float(2.0 ** Tally().number(3.0)) == 8.0
    assert dual_operations(lambda x: x[0] ** x[0], [3.0]) == 8


def test_entries_far_below_one_are_judged_as_if_they_were_one(rng):
    tiny = lambda x: (1e-7 * x * x, (x,))
    check_pair(tiny, lambda d, x: (np.zeros_like(d),), rng.standard_normal(5), rng=rng)
    large = lambda x: (1e-3 * x * x, (x,))
    with pytest.raises(AssertionError, match="input 0 at"):
        check_pair(large, lambda d, x: (np.zeros_like(d),), rng.standard_normal(5), rng=rng)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_forward_mode_costs_n_passes_of_at_most_four_times_the_formula(rng, n):
    f = lambda xs: sum(tanh(x * x) / (x + 2.0) for x in xs)
    xs = rng.standard_normal(n).tolist()
    one = dual_operations(lambda ys: f([*ys, *xs[1:]]), xs[:1])
    assert dual_operations(f, xs) <= 4 * n * operations(f, xs)
    assert dual_operations(f, xs) >= n * one


def test_a_right_gradient_passes_also_for_views_and_skipped_inputs(rng):
    x, w = rng.standard_normal((2, 6, 4))
    check_pair(scaled_tanh, scaled_tanh_vjp, x, w, None, rng=rng)
    check_pair(scaled_tanh, scaled_tanh_vjp, x[::2].T, w[::-2].T, np.arange(3), rng=rng)
    check_pair(scaled_tanh, scaled_tanh_vjp, x[:0], w[:0], np.array([True]), rng=rng)
    check_pair(lambda x, power=1: (np.sum(x**power), (x, power)),
               lambda d, x, power: (d * power * x ** (power - 1),), x, rng=rng, power=3)


@pytest.mark.parametrize("wrong, message", [
    (lambda d, y, w: (d * w * (1 - y), d * y, None), r"input 0 at \(\d, \d\): analytic"),
    (lambda d, y, w: (d * w * (1 - y * y), d * y * 1.0001, None), "input 1 at"),
    (lambda d, y, w: (d * w * (1 - y * y), np.where(w == w.max(), 0, d * y), None), "input 1 at"),
    (lambda d, y, w: (d * w * (1 - y * y), d * np.nan, None), "nan"),
    (lambda d, y, w: ((d * w * (1 - y * y)).sum(0), d * y, None), r"shape \(4,\).*shape \(3, 4\)"),
    (lambda d, y, w: (None, d * y, None), "input 0: NoneType"),
    (lambda d, y, w: (d * w * (1 - y * y), d * y), "2 gradients for 3 inputs"),
    (lambda d, y, w: (d * w * (1 - y * y), d * y, d), "input 2 has no gradient"),
    (lambda d, y, w: d, "must return a tuple"),
    (lambda d, y, w: (d * w * (1 - y * y), d * y * np.float64(1), None), "float32 inputs"),
    (lambda d, y, w: (np.multiply(d, w * (1 - y * y), out=d), d * y, None), "modified dout"),
    (lambda d, y, w: (np.multiply(w, 0, out=w), d * y, None), "f_vjp modified input 1")])
def test_a_planted_wrong_gradient_fails(rng, wrong, message):
    x, w = rng.standard_normal((2, 3, 4))
    with pytest.raises(AssertionError, match=message):
        check_pair(scaled_tanh, wrong, x, w, None, rng=rng)


def test_a_forward_that_writes_to_its_input_fails(rng):
    def careless(x):
        np.maximum(x, 0, out=x)
        return x.copy(), ()
    with pytest.raises(AssertionError, match="f modified input 0"):
        check_pair(careless, lambda d: (d,), rng.standard_normal(5), rng=rng)


def test_arrays_among_the_options_follow_the_dtype(rng):
    pair = lambda x, table: (x * table, (table,)), lambda d, table: (d * table,)
    check_pair(*pair, rng.standard_normal(5), rng=rng, table=np.arange(5.0))
    check_twin(pair, pair, [rng.standard_normal(5)], rng, table=np.arange(5.0))


def test_inputs_can_be_left_out_of_the_check(rng):
    x, mask = rng.standard_normal((2, 5))
    pair = lambda x, mask: (x * mask, (mask,)), lambda d, mask: (d * mask, None)
    check_pair(*pair, x, mask, rng=rng, differentiable=[0])
    with pytest.raises(AssertionError, match="gradient of input 1: NoneType"):
        check_pair(*pair, x, mask, rng=rng)


def test_equal_twins_pass_and_a_twin_that_ignores_strides_fails(rng):
    pair = scaled_tanh, scaled_tanh_vjp
    arrays = [*rng.standard_normal((2, 3, 4)), None]
    check_twin(pair, pair, arrays, rng)

    def in_memory_order(x, w, ids=None):  # right for contiguous arrays only
        flat = x.base.ravel() if x.base is not None and x.base.size > x.size else x.ravel("K")
        return scaled_tanh(flat[:x.size].reshape(x.shape), w)
    with pytest.raises(AssertionError, match="float32, asfortranarray: out"):
        check_twin(pair, (in_memory_order, scaled_tanh_vjp), arrays, rng)


def test_a_twin_that_fails_on_views_alone_is_found(rng):
    def dense_only(x, w, ids=None):  # right for both dense orders, wrong where elements are skipped
        dense = x.flags.c_contiguous or x.flags.f_contiguous
        return scaled_tanh(x if dense else x + 1, w)
    with pytest.raises(AssertionError, match="float32, every_second: out"):
        check_twin((scaled_tanh, scaled_tanh_vjp), (dense_only, scaled_tanh_vjp),
                   [*rng.standard_normal((2, 3, 4)), None], rng)


def test_a_float32_constant_drowns_the_difference():
    result = float32_formula(np.linspace(1.0, 2.0, 50))
    assert 1e-4 < result < 1e-1, "float32 rounds to 6e-8, which the step of 6e-6 divides"


@pytest.mark.parametrize("twin, message", [
    ((lambda x, w, ids: (np.tanh(x) * w * 1.001, scaled_tanh(x, w)[1]), scaled_tanh_vjp), "out"),
    ((scaled_tanh, lambda d, y, w: (d * w * (1 - y * y), d * y * 2, None)), "gradient of input 1"),
    ((scaled_tanh, lambda d, y, w: (None, d * y, None)), "input 0: float32 .* against NoneType"),
    ((scaled_tanh, lambda d, y, w: (d * w, d * y)), "3 gradients in the reference, 2 in the twin"),
    ((lambda x, w, ids: (np.float64(1) * np.tanh(x) * w, scaled_tanh(x, w)[1]), scaled_tanh_vjp),
     "float32 .* against float64")])
def test_a_twin_that_differs_fails(rng, twin, message):
    with pytest.raises(AssertionError, match=message):
        check_twin((scaled_tanh, scaled_tanh_vjp), twin, [*rng.standard_normal((2, 3, 4)), None],
                   rng)


def test_low_precision_is_refused_with_the_cure(rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 3\).*np.asarray"):
        numerical_gradient(np.sum, x)
    with pytest.raises(ValueError, match="int64"):
        numerical_gradient(np.sum, np.arange(3))
    with pytest.raises(ValueError, match="float32 constant"):
        numerical_gradient(lambda z: z.astype(np.float32).sum(), np.zeros(2))
    with pytest.raises(ValueError, match=r"one number, got float64 of shape \(2, 3\)"):
        numerical_gradient(lambda z: z, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"input 0 is float32 of shape \(2, 3\)"):
        check_pair(scaled_tanh, scaled_tanh_vjp, x, x, None, rng=rng)


@pytest.mark.parametrize("step, x, at", [(0.0, [1.0], 0), (1e-20, [0.0, 1.0], 1)])
def test_a_step_lost_in_rounding_is_refused(step, x, at):
    with pytest.raises(ValueError, match=rf"lost .* 1.0 at \({at},\) of x \({len(x)},\)"):
        numerical_gradient(np.sum, np.array(x), step)


def test_the_best_float64_step_is_near_6e_minus_6():
    assert abs(STEP - 6.06e-6) < 0.01e-6
    result = importlib.import_module("days.day12.run").measure(fast=True, seed=0)
    predicted, measured, miss = result.best["central float64"]
    assert predicted == pytest.approx(6.93e-6, rel=1e-2)
    assert 1.5e-6 < measured < 2.5e-5
    assert miss < 1e-10 < 1e-9 < result.best["forward float64"][2]
    assert result.dual_error["float64"] < 3e-16
    assert result.rounding["central float64"][0] < 1, "the bound on rounding is a bound"
    assert abs(result.newton[-1]) < 1e-9
    assert result.nats[1] < result.nats[0]


def test_a_short_text_has_both_its_losses():
    run = importlib.import_module("days.day12.run")
    losses = run.temperature_losses(Corpus("short", "to be or not to be " * 2000))
    assert all(0 < float(loss(1.0)) < np.log(8) for loss in losses)
