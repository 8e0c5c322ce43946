"""Day 19 · Schedules and clipping: claims about the rate of each step and the length of a step."""

import importlib
import math

import numpy as np
import pytest

from llm.grad import ops
from llm.grad.check import numerical_gradient
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import NeuralNGram
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


def test_the_hand_example_of_clipping():
    a, b = np.array([3.0]), np.array([4.0])
    assert clip_gradients([a, b], 1.0) == 5.0
    assert a == pytest.approx(0.6, rel=1e-15)
    assert b == pytest.approx(0.8, rel=1e-15)


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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_not_finite_is_reported_and_not_applied(bad):
    a, b = np.array([3.0, bad]), np.array([4.0])
    assert not math.isfinite(clip_gradients([a, b], 1.0))
    assert a[0] == 3.0
    assert b[0] == 4.0
    huge = np.full(9, 1e30, np.float32)              # its squares overflow float32
    assert clip_gradients([huge], 1.0) == math.inf
    assert (huge == np.float32(1e30)).all()


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


def test_the_range_run_finds_a_rate_and_clipping_bounds_the_harm_of_bad_batches():
    result = importlib.import_module("days.day19.run").measure(fast=True, seed=0)
    assert 1e-3 < result.suggested < 0.05
    assert all(norm > 1.5 * usual for _, _, usual, norm, _ in result.clips)
    after = {(kind, limit): loss for kind, limit, _, _, loss in result.clips}
    assert after["plain", 1.0] < after["plain", None]
