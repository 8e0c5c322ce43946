"""Day 08 · Drawing tokens: the inverse CDF, Gumbel-max, and temperature with its limits."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from days.day08.run import measure
from llm.functions.probability import cross_entropy, entropy, softmax
from llm.generate.sample import gumbel_sample, sample, scaled, tempered

SAMPLERS = [sample, gumbel_sample]
HALVES = np.log([1 / 2, 1 / 4, 1 / 8, 1 / 8])  # the logits of the hand example


def uniform(u):
    """A random generator whose every uniform number is u."""
    return SimpleNamespace(random=lambda shape: np.full(shape, u))


def chi_square(counts, p):
    """Pearson's Σ (observed − expected)² / expected over the ids that can occur."""
    counts, expected = counts[p > 0], counts.sum() * p[p > 0]
    return ((counts - expected) ** 2 / expected).sum()


def critical(degrees, z=3.0902):
    """The χ² exceeded with probability .001 (z is the normal quantile): Wilson and Hilferty 1931.

    df · (1 − 2/(9 df) + z √(2/(9 df)))³, within 2 % of the tables: 28.06 for 9 degrees, not 27.88.
    """
    return degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3


# the hand example

@pytest.mark.parametrize("u, want", [(0, 0), (0.4999, 0), (0.5001, 1), (0.6, 1), (0.7499, 1),
                                     (0.7501, 2), (0.8751, 3), (1 - 2**-53, 3)])
def test_hand_example_of_the_inverse_cdf(u, want):
    assert sample(HALVES, uniform(u)) == want
    assert sample(HALVES + 100, uniform(u)) == want      # a shift changes nothing


def test_a_uniform_number_on_the_border_belongs_to_the_next_id():
    assert [sample(np.zeros(4), uniform(u)) for u in (0, 0.25, 0.5, 0.75)] == [0, 1, 2, 3]


def test_hand_example_of_temperature():
    assert tempered(HALVES, 0.5) == pytest.approx(np.array([16, 4, 1, 1]) / 22)
    assert tempered(HALVES, 1) == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    assert (tempered(HALVES) == tempered(HALVES, 1)).all()
    root = np.sqrt([4, 2, 1, 1])
    assert tempered(HALVES, 2) == pytest.approx(root / root.sum())
    assert tempered(HALVES, 0).tolist() == [1, 0, 0, 0]
    assert tempered(HALVES, math.inf).tolist() == [1 / 4] * 4


def test_hand_example_of_gumbel_max():
    noise = np.array([0.1, 1.2, -0.5, 1.5])
    rng = SimpleNamespace(gumbel=lambda size: noise)
    assert (HALVES + noise).round(2).tolist() == [-0.59, -0.19, -2.58, -0.58]
    assert gumbel_sample(HALVES, rng) == 1


def test_scaled_logits_are_zero_at_the_best_token_at_every_temperature():
    for temperature in (0, 1e-300, 0.5, 1, math.inf):
        z = scaled(np.append(HALVES, -np.inf), temperature)
        assert z[0] == z.max() == 0 and z[-1] == -np.inf


# invariants, and frequencies against probabilities

@pytest.mark.parametrize("draw", SAMPLERS)
@pytest.mark.parametrize("temperature", [0.3, 1, 2, math.inf])
def test_frequencies_pass_a_chi_square_test(draw, temperature):
    rng = np.random.default_rng(10)
    logits = np.append(rng.normal(size=11), -np.inf)
    p = tempered(logits, temperature)
    ids = draw(np.tile(logits, (20_000, 1)), rng, temperature)
    counts = np.bincount(ids, minlength=12)
    assert counts[-1] == 0                               # masked
    likely = p * 20_000 >= 5                             # pool the rare ones, as the test asks for
    pooled = np.append(counts[likely], counts[~likely].sum())
    q = np.append(p[likely], p[~likely].sum())
    assert chi_square(pooled, q) < critical((q > 0).sum() - 1)


def test_the_chi_square_test_can_fail():
    counts = np.bincount(sample(np.zeros((20_000, 10)), np.random.default_rng(0)), minlength=10)
    wrong = softmax(np.linspace(0, 0.2, 10))
    assert chi_square(counts, np.full(10, 0.1)) < critical(9) < chi_square(counts, wrong)


@pytest.mark.parametrize("draw", SAMPLERS)
def test_one_row_gives_an_int_and_several_give_int32(draw):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 5)).astype(np.float32)
    for temperature in (0, 0.7, 1, math.inf):
        assert isinstance(draw(logits[0], rng, temperature), int)
        ids = draw(logits, rng, temperature)
        assert ids.shape == (3,) and ids.dtype == np.int32 and set(ids.tolist()) <= set(range(5))


def test_a_batch_draws_what_its_rows_draw_alone():
    logits = np.random.default_rng(2).normal(size=(50, 9))
    for draw in SAMPLERS:
        alone, together = np.random.default_rng(3), np.random.default_rng(3)
        assert draw(logits, together, 0.8).tolist() == [draw(z, alone, 0.8) for z in logits]


def test_temperature_raises_the_entropy_at_the_rate_of_the_variance():
    z, h = np.random.default_rng(4).normal(size=20) * 3, 1e-5
    temperatures = [0.05, 0.3, 0.7, 1, 1.9, 5, 50]
    entropies = [entropy(tempered(z, t)) for t in temperatures]
    assert entropies == sorted(entropies) and entropies[-1] < math.log(20)
    for t in temperatures[1:]:
        p = tempered(z, t)
        variance = (p * (z - p @ z) ** 2).sum()
        slope = (entropy(tempered(z, t + h)) - entropy(tempered(z, t - h))) / (2 * h)
        assert slope == pytest.approx(variance / t**3, rel=1e-5, abs=1e-8)


def test_best_temperature_is_where_entropy_meets_cross_entropy():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(4000, 6))
    targets, z = sample(truth, rng), truth * 3           # a model three times too sure
    low, high = 0.1, 10.0
    for _ in range(60):
        t = (low + high) / 2
        short = entropy(tempered(z, t)).mean() < cross_entropy(z / t, targets)
        low, high = (t, high) if short else (low, t)
    assert t == pytest.approx(3, rel=0.1)
    best = cross_entropy(z / t, targets)
    assert best < cross_entropy(z / (t * 1.02), targets)
    assert best < cross_entropy(z / (t * 0.98), targets)


# edges

@pytest.mark.parametrize("draw", SAMPLERS)
def test_zero_is_argmax_and_tiny_temperatures_approach_it(draw):
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(200, 30))
    assert draw(logits, None, 0).tolist() == logits.argmax(axis=1).tolist()   # no randomness used
    for tiny in (1e-6, 1e-300, 5e-324):
        assert draw(logits, rng, tiny).tolist() == logits.argmax(axis=1).tolist()


def test_ties_go_to_the_lowest_id_at_zero_and_are_shared_in_the_limit():
    tied = [1.0, 3.0, 3.0, -np.inf]
    assert sample(tied, None, 0) == gumbel_sample(tied, None, 0) == 1
    assert tempered(tied, 0).tolist() == [0, 1, 0, 0]
    assert tempered(tied, 1e-300).tolist() == [0, 0.5, 0.5, 0]
    rng = np.random.default_rng(7)
    for draw in SAMPLERS:
        assert {draw(tied, rng, 1e-300) for _ in range(50)} == {1, 2}


@pytest.mark.parametrize("temperature", [0, 1e-9, 1, 1e9, math.inf])
@pytest.mark.parametrize("draw", SAMPLERS)
def test_masked_ids_are_never_drawn(draw, temperature):
    logits = np.tile(np.float32([-np.inf, 0, -np.inf, 1, -np.inf]), (2000, 1))
    ids = set(draw(logits, np.random.default_rng(8), temperature).tolist())
    assert ids <= {1, 3}


def test_the_largest_uniform_number_stays_inside_the_vocabulary():
    almost = uniform(1 - 2**-53)
    for v in (1, 3, 10, 84, 50257):
        for scale in (0, 1, 10):
            z = np.random.default_rng(v).normal(size=v).astype(np.float32) * scale
            assert sample(z, almost) < v
            assert sample(np.append(z, -np.inf), almost) < v       # nor is the masked end drawn
            assert sample(np.append(-np.inf, z), uniform(0.0)) == 1


@pytest.mark.parametrize("draw", SAMPLERS)
def test_what_cannot_be_drawn_from_is_refused(draw):
    rng = np.random.default_rng(9)
    for temperature in (-1, math.nan):
        with pytest.raises(ValueError, match=f"0 or more, not {temperature}"):
            draw([0.0, 1.0], rng, temperature)
    for logits, message in [([-np.inf, -np.inf], r"\(2,\) has the maximum -inf"),
                            ([[0.0, 1.0], [0.0, np.nan]], r"\(2, 2\) has the maximum nan"),
                            ([np.inf, 0.0], "maximum inf"), ([], r"\(0,\) offer no token"),
                            (np.zeros((2, 0)), r"\(2, 0\) offer no token"), (1.0, r"\(\) offer")]:
        for temperature in (0, 1):
            with pytest.raises(ValueError, match=message):
                draw(logits, rng, temperature)
    assert draw([3.0], rng) == 0 and draw(np.zeros((0, 3)), rng).shape == (0,)


def test_headline_heat_buys_variety_with_real_words():
    result = measure(fast=True, seed=0)
    bits, real, distinct = (np.array([row[i] for row in result.rows]) for i in (1, 2, 3))
    assert bits[0] == 0 and (np.diff(bits) > 0).all()
    assert real[0] > 0.9 and real[-1] < 0.7 and distinct[-1] > 0.3
    entropies = [row[1] for row in result.curve]
    assert entropies == sorted(entropies)
    best = min(result.curve, key=lambda row: row[2])[0]   # on a grid of steps of 0.1
    assert abs(result.crossing - best) <= 0.1
