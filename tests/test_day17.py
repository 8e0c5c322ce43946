"""Day 17 · SGD and momentum: three steps by hand, the edge of stability, the best rates."""

import math

import numpy as np
import pytest

from days.day17.run import HIGH, LOW, letter_pairs, measure, noise
from llm.grad.tensor import Tensor
from llm.train.sgd import SGD, best_descent, best_momentum, best_nesterov, restore


def parameter(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def walk(gradient, start, steps, rate, **options):
    """The parameters before each step and after the last: (steps + 1, …)."""
    p = parameter(start)
    optimizer, path = SGD({"p": p}, **options), [p.data.copy()]
    for _ in range(steps):
        p.grad = gradient(p.data)
        optimizer.step(rate)
        path.append(p.data.copy())
    return np.array(path)


def bowl(rng, n):
    """A symmetric matrix (n, n) with positive eigenvalues, and these."""
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    curvatures = rng.uniform(0.5, 20, n)
    return q * curvatures @ q.T, curvatures


def test_three_steps_by_hand_on_half_x_squared():
    def slope(x):
        return x

    assert walk(slope, [1.0], 3, 0.1)[:, 0] == pytest.approx([1, 0.9, 0.81, 0.729])
    assert walk(slope, [1.0], 3, 0.1, momentum=0.9)[:, 0] == pytest.approx([1, 0.9, 0.72, 0.486])
    assert walk(slope, [1.0], 2, 0.1, momentum=0.9, nesterov=True)[:, 0] == pytest.approx(
        [1, 0.81, 0.5751])


@pytest.mark.parametrize("seed", range(5))
def test_descent_converges_just_below_two_over_the_curvature_and_not_above(seed):
    rng = np.random.default_rng(seed)
    a, curvatures = bowl(rng, 6)
    edge = 2 / curvatures.max()
    below, above = (walk(lambda x: a @ x, rng.standard_normal(6), 3000, s * edge)
                    for s in (0.99, 1.01))
    assert np.linalg.norm(below[-1]) < 1e-9 and np.linalg.norm(above[-1]) > 1e9


@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_momentum_converges_just_below_two_times_one_plus_momentum_over_the_curvature(momentum):
    edge = 2 * (1 + momentum) / 5.0
    for share, small in ((0.99, True), (1.01, False)):
        path = walk(lambda x: 5.0 * x, [1.0], 1500, share * edge, momentum=momentum)
        assert abs(path[-1, 0]) < 1e-6 if small else abs(path[-1, 0]) > 1e6


@pytest.mark.parametrize("seed", range(3))
def test_momentum_is_the_recurrence_with_the_last_difference(seed):
    rng = np.random.default_rng(seed)
    a, _ = bowl(rng, 4)
    x, last, rate, momentum = rng.standard_normal(4), None, 0.02, 0.8
    path = walk(lambda x: a @ x, x, 30, rate, momentum=momentum)
    for found in path[1:]:
        x, last = x - rate * a @ x + (0 if last is None else momentum * (x - last)), x
        np.testing.assert_allclose(found, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_nesterov_is_a_gradient_step_and_then_a_look_ahead(seed):
    """x ← y − rate·∇(y);  y ← x + μ(x − last x): the parameters are the y."""
    rng = np.random.default_rng(seed)
    a, _ = bowl(rng, 4)
    y, rate, momentum = rng.standard_normal(4), 0.02, 0.8
    path = walk(lambda x: a @ x, y, 30, rate, momentum=momentum, nesterov=True)
    last = y
    for found in path[1:]:
        x = y - rate * a @ y
        y, last = x + momentum * (x - last), x
        np.testing.assert_allclose(found, y, rtol=1e-10, atol=1e-12)


def nesterov_factor(rate, momentum, low, high):
    """The largest root over curvatures in between: of z² − (1 + μ)(1 − ηλ)z + μ(1 − ηλ)."""
    return max(np.abs(np.roots([1, -(1 + momentum) * (1 - rate * x), momentum * (1 - rate * x)]))
               .max() for x in np.linspace(low, high, 9))


def test_the_best_rates_give_the_promised_factors():
    low, high = 0.5, 40.0
    rate, factor = best_descent(low, high)
    assert factor == pytest.approx(max(abs(1 - rate * low), abs(1 - rate * high)))
    quick, momentum, quicker = best_momentum(low, high)
    for curvature in (low, high, 3.0):
        roots = np.roots([1, -(1 + momentum - quick * curvature), momentum])
        assert np.abs(roots).max() == pytest.approx(quicker, rel=1e-6)
    assert quicker == pytest.approx((math.sqrt(80) - 1) / (math.sqrt(80) + 1)) and quicker < factor
    ahead, slide, third = best_nesterov(low, high)
    assert third == pytest.approx(1 - 2 / math.sqrt(241)) and quicker < third < factor
    assert nesterov_factor(ahead, slide, low, high) == pytest.approx(third, rel=1e-6)
    for rate_ in ahead * np.linspace(0.5, 1.5, 21):     # no other pair is better
        for slide_ in np.linspace(0.3, 0.98, 35):
            assert nesterov_factor(rate_, slide_, low, high) >= third - 1e-9
    rates = np.linspace(0.2, 3, 400) * rate           # no other rate is better
    worst = np.maximum(np.abs(1 - rates * low), np.abs(1 - rates * high))
    assert worst.min() >= factor - 1e-12


def test_a_constant_gradient_is_followed_at_one_over_one_minus_momentum():
    path = walk(lambda x: np.ones_like(x), [0.0], 400, 0.1, momentum=0.9)
    assert path[-2, 0] - path[-1, 0] == pytest.approx(0.1 / (1 - 0.9))


def test_the_noise_of_a_batch_gradient_falls_with_the_root_of_the_batch():
    counts = letter_pairs("the quick brown fox jumps over the lazy dog " * 20)
    rows = noise(counts, np.random.default_rng(0), 300)
    scaled = [row[2] for row in rows]
    assert [row[0] for row in rows] == [16, 64, 256, 1024]
    assert max(scaled) / min(scaled) < 1.1 and rows[0][1] == pytest.approx(scaled[0] / 4)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped():
    p, q = parameter([3.0, -2.0]), parameter([3.0, -2.0])
    one, other = SGD({"p": p}, 0.9), SGD({"p": q}, 0.9)
    for i in range(6):
        if i == 3:
            saved = {name: array.copy() for name, array in other.state_dict().items()}
            other = SGD({"p": q}, 0.9)
            other.load_state_dict(saved)
        for x, optimizer in ((p, one), (q, other)):
            x.grad = np.sin(x.data)
            optimizer.step(0.1)
    assert np.array_equal(p.data, q.data)
    assert SGD({"p": p}).state_dict() == {}


def test_a_parameter_without_a_gradient_stays_and_float32_stays():
    p, q = parameter([1.0], np.float32), parameter([2.0])
    optimizer = SGD({"p": p, "q": q}, 0.9, nesterov=True)
    p.grad = np.ones(1, np.float32)
    optimizer.step(0.5)
    assert p.data.dtype == np.float32 and optimizer.v["p"].dtype == np.float32
    assert q.data.tolist() == [2.0] and optimizer.v["q"].tolist() == [0.0]


def test_a_float16_velocity_is_kept_in_float32():
    p = Tensor(np.zeros(2, np.float16), requires_grad=True)
    optimizer = SGD({"p": p}, momentum=0.999)
    for _ in range(3000):                     # in float16 the sum would stall
        p.grad = np.ones(2, np.float16)
        optimizer.step(0.0)
    assert optimizer.v["p"] == pytest.approx((1 - 0.999**3000) / 0.001, rel=1e-4)
    assert p.dtype == np.float16


def test_the_gradient_itself_is_left_as_it_was():
    p, g = parameter([1.0, 2.0]), np.array([3.0, 4.0])
    for options in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        optimizer = SGD({"p": p}, **options)
        p.grad = g
        optimizer.step(0.1)
        optimizer.step(0.1)
        assert g.tolist() == [3.0, 4.0]


def test_bad_input_is_refused_with_the_cure():
    p = {"p": parameter([1.0])}
    for bad in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"momentum .* must be in \[0, 1\)"):
            SGD(p, bad)
    with pytest.raises(ValueError, match="momentum=0.9"):
        SGD(p, nesterov=True)
    for bad in ({}, [p["p"]]):
        with pytest.raises(ValueError, match="named_parameters"):
            SGD(bad)
    with pytest.raises(ValueError, match="does not fit"):
        SGD(p, 0.9).load_state_dict({"v.other": np.zeros(1)})
    with pytest.raises(ValueError, match=r"v.p has shape \(2,\).*\(1,\)"):
        SGD(p, 0.9).load_state_dict({"v.p": np.zeros(2)})
    for low, high in ((0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, math.inf)):
        for best in (best_descent, best_momentum, best_nesterov):
            with pytest.raises(ValueError, match="0 < low ≤ high"):
                best(low, high)


def test_momentum_is_quicker_in_the_valley_and_on_bigrams():
    result = measure(fast=True, seed=0)
    promised = {"descent": best_descent(LOW, HIGH)[1], "momentum": best_momentum(LOW, HIGH)[2],
                "Nesterov": best_nesterov(LOW, HIGH)[2],
                "Nesterov, 1/λmax": 1 - math.sqrt(LOW / HIGH)}
    for name, factor in promised.items():             # a double root costs a few steps more
        steps = math.log(1e-6) / math.log(factor)
        assert steps - 1 <= result.valley_steps[name] < 1.35 * steps, name
    assert result.edge[0] < 1 < result.edge[1]
    assert result.steps["momentum"] < result.steps["descent"]


def test_a_parameter_after_one_without_a_gradient_still_moves():
    p, q = parameter([1.0]), parameter([2.0])
    q.grad = np.ones(1)
    SGD({"p": p, "q": q}).step(0.5)
    assert p.data.tolist() == [1.0] and q.data.tolist() == [1.5]


@pytest.mark.parametrize("state", [{"v.p": np.zeros((2, 3))}, {}, {"v.q": np.zeros((3, 2))},
                                   {"v.p": np.zeros((3, 2)), "v.q": np.zeros(1)}])
def test_a_state_of_another_shape_or_with_other_names_is_refused(state):
    optimizer = SGD({"p": parameter(np.ones((3, 2)))}, momentum=0.9)
    with pytest.raises(ValueError, match="shape \\(2, 3\\)|does not fit"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("damaged", [[-1e-9, 1.0], [1.0, math.nan]])
def test_a_state_of_squares_is_refused_where_it_is_negative_or_nan_and_no_other_is(damaged):
    mine = {"v.p": np.zeros(2), "s.p": np.zeros(2)}
    restore(mine, {"v.p": np.array([-2.0, 0.5]), "s.p": np.array([0.0, 0.5])}, squares=("s.",))
    with pytest.raises(ValueError, match="s.p is a mean of squares and negative, or NaN"):
        restore(mine, {"v.p": np.ones(2), "s.p": np.array(damaged)}, squares=("s.",))
    assert mine["v.p"].tolist() == [-2.0, 0.5] and mine["s.p"].tolist() == [0.0, 0.5]
