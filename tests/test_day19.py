"""Day 19 · Schedules and clipping: claims about the rate of each step and the length of a step."""

import importlib
import math

import numpy as np
import pytest

from days.day19.bowl import MAKERS, compare, expected_losses, floor, one_over_t, rates_of, walk
from days.day19.lab import averaged, noise_step
from llm.grad import ops
from llm.grad.check import numerical_gradient
from llm.grad.tensor import Tensor
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import NeuralNGram
from llm.train.adam import AdamW, adamw_update
from llm.train.clip import clip_gradients, squared_norm
from llm.train.schedule import (
    Constant,
    WarmupCosine,
    WarmupStableDecay,
    exponential_range,
    suggest,
)


def rates(schedule, total):
    return [schedule(step, total) for step in range(1, total + 1)]


def test_the_hand_example_of_a_schedule():
    assert rates(WarmupCosine(peak=1.0, warmup=2, floor=0.0), 6) == pytest.approx(
        [0.5, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0])
    assert rates(WarmupStableDecay(peak=1.0, warmup=2, decay=0.4), 10) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_unless_told_the_warmup_takes_100_steps_and_the_decay_the_last_fifth():
    for schedule, at_900 in ((WarmupCosine(1.0), 0.5 * (1 - math.cos(math.pi / 9))),
                             (WarmupStableDecay(1.0), 0.5)):
        assert [schedule(step, 1000) for step in (1, 99, 100, 900, 1000)] == pytest.approx(
            [0.01, 0.99, 1, at_900, 0])
    assert WarmupStableDecay(1.0)(800, 1000) == 1


def test_the_hand_example_of_clipping():
    a, b = np.array([3.0]), np.array([4.0])
    assert clip_gradients([a, b], 1.0) == 5.0
    assert a == pytest.approx(0.6, rel=1e-15)
    assert b == pytest.approx(0.8, rel=1e-15)


def test_the_hand_example_of_noise_a_constant_rate_has_a_floor_and_one_over_t_has_none():
    one = np.ones(1)                                   # λ = 1, s² = 1, E[x²] = 1 at the start
    assert 2 * expected_losses([0.1, 0.1], one, 1.0) == pytest.approx([1, 0.82, 0.6742])
    assert floor(0.1, 1.0, 1.0) == pytest.approx(0.1 / 1.9)
    assert rates_of(one_over_t(1.0, 1.0), 3) == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert 2 * expected_losses([1 / 2, 1 / 3, 1 / 4], one, 1.0) == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize("make", [WarmupCosine, WarmupStableDecay])
@pytest.mark.parametrize("warmup, total", [(2, 10), (10, 100), (100, 1000), (5, 25)])
def test_step_one_is_not_the_full_rate_and_the_end_of_the_warmup_is_the_peak(make, warmup, total):
    schedule = make(0.3, warmup, floor=0.01)
    all_rates = rates(schedule, total)
    assert all_rates[0] == pytest.approx(0.3 / warmup)
    assert all_rates[warmup - 1] == max(all_rates) == pytest.approx(0.3)
    assert np.diff(all_rates[:warmup]) == pytest.approx(0.3 / warmup)
    assert (np.diff(all_rates[warmup - 1:]) <= 1e-15).all()


@pytest.mark.parametrize("make", [WarmupCosine, WarmupStableDecay])
def test_after_the_end_it_stays_at_the_floor(make):
    schedule = make(0.3, 10, floor=0.02)
    for step in (100, 101, 150, 200, 1000):
        assert schedule(step, 100) == pytest.approx(0.02)


def test_half_way_down_the_cosine_the_rate_is_half_way():
    assert WarmupCosine(1.0, 20, 0.2)(60, 100) == pytest.approx(0.6)


def test_the_plateau_is_flat_and_the_end_does_not_depend_on_when_it_was_decided():
    schedule = WarmupStableDecay(0.3, 10, decay=0.2)
    assert {schedule(step, 100) for step in range(10, 81)} == {0.3}
    for step in range(10, 81):                       # same rates whatever the plan is: extendable
        assert schedule(step, 100) == schedule(step, 1000)


@pytest.mark.parametrize("schedule", [
    Constant(0.3), WarmupCosine(0.3, 10), WarmupStableDecay(0.3, 10), WarmupCosine(0.3, 0),
    WarmupStableDecay(0.3, 0), WarmupCosine(0.3, 10, 0.1), WarmupStableDecay(0.3, 99, floor=0.1)])
@pytest.mark.parametrize("total", [1, 2, 5, 10, 11, 100, 10**6])
def test_every_rate_lies_between_zero_and_the_peak(schedule, total):
    for step in {1, 2, total // 2 + 1, max(total - 1, 1), total, total + 1}:
        assert 0 <= schedule(step, total) <= 0.3 + 1e-15


def test_a_warmup_that_reaches_into_the_decay_does_not_jump():
    all_rates = rates(WarmupStableDecay(1.0, warmup=90, decay=0.4), 100)
    assert np.abs(np.diff(all_rates)).max() < 0.03


def test_the_range_run_multiplies_evenly_from_lowest_to_highest():
    all_rates = rates(exponential_range(1e-4, 1.0), 41)
    assert all_rates[0] == pytest.approx(1e-4)
    assert all_rates[-1] == pytest.approx(1.0)
    assert np.diff(np.log(all_rates)) == pytest.approx(math.log(1e4) / 40)
    assert rates(exponential_range(1e-4, 1.0), 1) == [1e-4]
    for lowest, highest in ((0, 1), (-1, 1), (1, 1), (2, 1)):
        with pytest.raises(ValueError, match="0 < lowest < highest"):
            exponential_range(lowest, highest)


def test_the_suggestion_is_a_third_of_the_rate_with_the_lowest_average():
    tried = np.geomspace(1e-4, 1, 200)
    losses = (np.log(tried / 0.05)) ** 2
    use, lowest = suggest(tried, losses, memory=0.0)
    assert lowest == pytest.approx(0.05, rel=0.05)
    assert use == lowest / 3
    noise = losses + np.random.default_rng(0).normal(0, 1, 200)
    assert 0.03 < suggest(tried, noise)[1] < 0.3
    assert suggest([1, 2, 3], [3.0, 2.0, math.nan])[1] == 2
    assert suggest([1, 2, 3, 4], [3.0, 2.0, math.inf, 0.0])[1] == 2
    assert suggest([1, 2, 3], [5.0, 6.0, 7.0])[1] == 1              # no bias towards 0 at first
    with pytest.raises(ValueError, match="2 rates and 1 losses"):
        suggest([1, 2], [1.0])
    for nothing in ([], [math.nan]):
        with pytest.raises(ValueError, match="no finite loss"):
            suggest([0.1] * len(nothing), nothing)


@pytest.mark.parametrize("rate, curvature, noise", [(0.1, 1.0, 1.0), (0.5, 2.0, 0.3)])
def test_the_floor_is_where_noisy_descents_end(rate, curvature, noise):
    ends = walk(rate, curvature, noise, 200, 40_000, np.random.default_rng(0))
    assert ends == pytest.approx(floor(rate, curvature, noise), rel=0.03)
    exact = 2 * expected_losses([rate] * 500, np.array([curvature]), noise)[-1] / curvature
    assert exact == pytest.approx(floor(rate, curvature, noise), rel=1e-12)


def test_one_over_t_is_the_best_next_rate_and_makes_x_a_running_mean():
    curvature, noise, start = 0.7, 0.3, 2.0
    rates = rates_of(one_over_t(curvature, noise / (curvature**2 * start)), 20)
    after = lambda rate, square: (1 - rate * curvature) ** 2 * square + rate**2 * noise
    square = start
    for rate in rates:
        assert (after(np.linspace(0, 2, 201), square) >= after(rate, square) - 1e-12).all()
        square = after(rate, square)
    assert square == pytest.approx(1 / (1 / start + 20 * curvature**2 / noise))
    x, xs = 5.0, np.random.default_rng(0).standard_normal(50)
    for t, noise in enumerate(xs, 1):
        x -= one_over_t(1.0, 0.0)(t, 50) * (x - noise)             # bottoms seen through noise
    assert x == pytest.approx(xs.mean())


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_rate_that_falls_like_u_to_the_p_lowers_the_floor_by_the_power_p_over_p_plus_1(power):
    rate, left = 0.01, []
    for steps in (20_000, 80_000):
        fall = rate * (np.arange(steps)[::-1] / steps) ** power
        left.append(2 * expected_losses(fall, np.ones(1), 1.0, floor(rate, 1, 1))[-1])
    assert left[0] / left[1] == pytest.approx(4 ** (power / (power + 1)), rel=0.03)
    if power == 1:
        predicted = 0.886 / math.sqrt(rate * 80_000) * floor(rate, 1, 1)
        assert left[1] == pytest.approx(predicted, rel=0.02)


def test_a_cosine_leaves_less_than_a_linear_fall_only_where_lambda_eta_d_is_above_34():
    rate, ends = 0.005, {}
    for travel in (17, 68):
        for name in ("cosine", "linear"):
            fall = rates_of(MAKERS[name](rate, 0), round(travel / rate))
            ends[name] = 2 * expected_losses(fall, np.ones(1), 1.0, floor(rate, 1, 1))[-1]
        assert (ends["cosine"] < ends["linear"]) == (travel > 34)
    assert ends["cosine"] == pytest.approx(1.6 * 68 ** (-2 / 3) * floor(rate, 1, 1), rel=0.05)


def test_on_a_bowl_with_many_curvatures_falling_rates_beat_a_constant_one_and_one_over_t():
    rows = compare(np.geomspace(1, 1e-3, 20), 0.1, 400)
    loss = {name: end for name, _, end in rows}
    assert set(loss) == {*MAKERS, "1/t"}
    assert max(loss["cosine"], loss["warmup-stable-decay"], loss["linear"]) < loss["constant"]
    assert loss["constant"] < 0.5 * loss["1/t"]


@pytest.mark.parametrize("t", [1, 2, 5, 20, 60])
def test_adam_s_early_steps_are_longer_where_gradients_are_coins(t):
    p = Tensor(np.zeros(40_000), requires_grad=True)
    optimizer, rng = AdamW({"p": p}, decay=0.0), np.random.default_rng(0)
    for _ in range(t):
        before = p.data.copy()
        p.grad = rng.choice([-1.0, 1.0], p.data.size)
        optimizer.step(0.01)
    size = math.sqrt(((p.data - before) ** 2).mean()) / 0.01
    assert size == pytest.approx(noise_step(t), rel=0.02)
    assert noise_step(1) == 1
    assert noise_step(10**4) == pytest.approx(1 / math.sqrt(19))


def test_what_the_range_run_reads_is_the_corrected_running_mean():
    losses = [4.0, 3.0, 5.0, math.nan, 1.0]
    found = averaged(losses, memory=0.5)
    assert found == pytest.approx([4, (0.25 * 4 + 0.5 * 3) / 0.75,
                                   (0.125 * 4 + 0.25 * 3 + 0.5 * 5) / 0.875])
    assert suggest([1, 2, 3, 4, 5], losses, memory=0.5)[1] == 1 + int(np.argmin(found))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [[(3,)], [(2, 3), (4,), ()], [(200, 700), (0,), (5, 1)]])
def test_a_long_gradient_gets_the_limit_s_length_and_keeps_its_direction(dtype, shapes):
    rng = np.random.default_rng(0)
    gradients = [np.asarray(rng.standard_normal(s), dtype) for s in shapes]
    before = [g.copy() for g in gradients]
    whole = lambda arrays: np.concatenate([g.ravel().astype(np.float64) for g in arrays])
    norm = clip_gradients(gradients, 0.1)
    assert norm == pytest.approx(np.linalg.norm(whole(before)), rel=1e-6)
    assert np.linalg.norm(whole(gradients)) == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_allclose(whole(gradients), whole(before) * 0.1 / norm, rtol=1e-5)
    assert all(g.dtype == dtype for g in gradients)
    assert isinstance(norm, float)


def test_a_short_gradient_is_left_alone_bit_for_bit():
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(5), rng.standard_normal((2, 2))]
    before = [g.copy() for g in gradients]
    for limit in (100.0, math.inf):
        clip_gradients(gradients, limit)
        assert all((g == b).all() for g, b in zip(gradients, before))


def test_the_clipped_gradient_is_the_nearest_point_of_the_ball():
    rng = np.random.default_rng(0)
    g = rng.standard_normal(6) * 3
    clipped = g.copy()
    clip_gradients([clipped], 1.0)
    assert np.linalg.norm(g - clipped) == pytest.approx(np.linalg.norm(g) - 1)
    others = rng.standard_normal((2000, 6))
    others *= rng.random((2000, 1)) / np.linalg.norm(others, axis=1, keepdims=True)
    others = np.concatenate([others, clipped + 1e-3 * others])
    others = others[np.linalg.norm(others, axis=1) <= 1]
    assert (np.linalg.norm(g - others, axis=1) >= np.linalg.norm(g - clipped)).all()


def test_to_adam_the_limit_is_nothing_where_every_step_is_clipped():
    def ends(limit):
        p = Tensor(np.zeros(7), requires_grad=True)
        optimizer, rng = AdamW({"p": p}, eps=0.0), np.random.default_rng(0)
        for _ in range(30):
            p.grad = rng.standard_normal(7) * 10 ** rng.uniform(0, 2)
            assert clip_gradients([p.grad], limit) > 0.1
            optimizer.step(0.1)
        return p.data

    np.testing.assert_allclose(ends(0.1), ends(0.001), rtol=1e-9)
    assert np.abs(ends(0.1) - ends(math.inf)).max() > 0.05          # sizes between steps do count


@pytest.mark.parametrize("size", [2.0, 10.0, 1000.0])
def test_one_bad_gradient_moves_adam_by_less_than_32_rates(size):
    p, m, v = np.zeros(1), np.zeros(1), np.ones(1)                  # usual gradients of size 1
    for t in range(100):
        g = np.array([size if t == 0 else 0.0])
        adamw_update(p, g, m, v, 10**6, 1.0, 0.9, 0.999, 0.0, 0.0)
        v += 0.001 * (t > 0)                                        # their squares go on
    assert -p[0] == pytest.approx(size / math.sqrt(1 + 0.001 * (size**2 - 1)), rel=0.01)
    assert -p[0] < 32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_not_finite_is_reported_and_not_applied(bad):
    a, b = np.array([3.0, bad]), np.array([4.0])
    assert not math.isfinite(clip_gradients([a, b], 1.0))
    assert a[0] == 3.0
    assert b[0] == 4.0
    huge = np.full(9, 1e30, np.float32)              # its squares overflow float32, it does not
    assert clip_gradients([huge], 1.0) == pytest.approx(3e30, rel=1e-6)
    np.testing.assert_allclose(huge, 1 / 3, rtol=1e-6)


def test_long_sums_keep_their_digits():
    g = np.full(3_000_001, 0.1, np.float32)
    assert squared_norm(g) == pytest.approx(g.size * float(np.float32(0.1)) ** 2, rel=5e-5)


def test_edges_of_clipping():
    assert clip_gradients([], 1.0) == 0.0
    zero = np.zeros(3)
    assert clip_gradients([zero], 1.0) == 0.0
    assert not zero.any()
    strided = np.arange(12.0).reshape(3, 4).T[::2]
    clip_gradients([strided], 1.0)
    assert np.linalg.norm(strided) == pytest.approx(1.0)
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="must be positive"):
            clip_gradients([zero], limit)


def test_the_deep_model_with_one_layer_is_day_16_s():
    deep = DeepWindow(7, 3, 4, 5, 1, np.random.default_rng(0), dtype=np.float64)
    plain = NeuralNGram(7, 3, 4, 5, np.random.default_rng(0), np.float64)
    ids = np.random.default_rng(1).integers(7, size=(2, 6, 3))
    np.testing.assert_allclose(deep(ids).data, plain(ids).data, rtol=1e-12)


def test_every_gradient_of_the_deep_model_equals_finite_differences():
    rng = np.random.default_rng(0)
    model = DeepWindow(5, 2, 3, 4, 3, rng, gain=1.5, dtype=np.float64)
    ids, targets = rng.integers(5, size=(6, 2)), rng.integers(5, size=6)
    loss = lambda: ops.cross_entropy(model(ids), targets)
    loss().backward()
    for name, p in model.named_parameters().items():
        numeric = numerical_gradient(lambda _: loss().data, p.data)
        np.testing.assert_allclose(p.grad, numeric, atol=1e-8, err_msg=name)
    assert len(model.activations(ids)) == 3
    with pytest.raises(ValueError, match=r"ids \(6, 3\) must end in T = 2"):
        model(np.zeros((6, 3), int))
    with pytest.raises(ValueError, match="layers 0"):
        DeepWindow(5, 2, 3, 4, 0, rng)


def test_a_window_alone_gives_the_logits_that_it_has_among_others():
    model = DeepWindow(7, 3, 4, 5, 2, np.random.default_rng(0), dtype=np.float64)
    ids = np.random.default_rng(1).integers(7, size=(2, 4, 3))
    np.testing.assert_allclose(model(ids[1, 2]).data, model(ids).data[1, 2], rtol=1e-12)
    with pytest.raises(ValueError, match=r"ids \(\) must end in T = 3"):
        model(np.array(3))


def test_a_norm_stands_before_each_activation_and_is_told_the_options():
    doubled = lambda channels: lambda h, **options: h * (channels * options["share"])
    ids = np.random.default_rng(1).integers(7, size=(6, 3))
    with_norm, plain = (DeepWindow(7, 3, 4, 5, 2, np.random.default_rng(0), norm, dtype=np.float64)
                        for norm in (doubled, None))
    for layer in plain.layers:
        layer.w.data *= 5 * 0.4
    np.testing.assert_allclose(with_norm(ids, share=0.4).data, plain(ids).data, rtol=1e-12)


def test_the_range_run_finds_a_rate_and_clipping_bounds_the_harm_of_bad_batches():
    result = importlib.import_module("days.day19.run").measure(fast=True, seed=0)
    assert all(1e-3 < use < 0.1 for _, _, uses in result.ranges for use in uses)
    assert all(bad > 3 * usual for _, _, usual, bad, *_ in result.spikes)
    after = {(kind, limit): loss for kind, limit, *_, loss, _ in result.spikes}
    assert after["plain", 1.0] < after["plain", None] - 0.1
    nats = {(kind, limit): x for kind, limit, _, _, x in result.throughout}
    assert nats["plain", 0.1] > nats["plain", None] + 0.3
    assert nats["AdamW", 0.01] == pytest.approx(nats["AdamW", 0.1], abs=0.01)
    assert result.moves[0] == pytest.approx(1, abs=0.05)
    assert result.moves[-1] < 0.6
    (_, small, _), (_, large, _) = result.starts
    assert large > 20 * small                    # why a large last layer wants a warmup
    for _, derived, found in result.floors:
        assert found == pytest.approx(derived, rel=0.1)


def test_squares_of_float16_are_added_in_float32():
    g = np.full(50_000, 0.01, np.float16)
    exact = float(g[0]) ** 2 * g.size
    # equal terms round alike, so how far the sum drifts depends on how many lanes the BLAS has
    assert squared_norm(g) == pytest.approx(exact, rel=1e-4)     # in float16 it stops at 0.25


def test_a_gradient_too_large_to_be_squared_is_clipped_like_any_other():
    g = np.full(128, 1e19, np.float32)
    assert clip_gradients([g], 1.0) == pytest.approx(1e19 * 128**0.5, rel=1e-6)
    np.testing.assert_allclose(g, 128**-0.5, rtol=1e-5)
    a, b = np.array([3e200]), np.array([-4e200])
    assert clip_gradients([a, b], 5.0) == pytest.approx(5e200)
    np.testing.assert_allclose([a[0], b[0]], [3, -4])
