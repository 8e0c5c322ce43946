"""Day 40: scaling laws."""

import math

import numpy as np
import pytest

from days.day40 import laws, models, rates
from days.day40.run import measure
from llm.data.stories import GRAMMAR
from llm.models.gpt import count_flops, count_parameters
from llm.train.scaling import (
    Law,
    bootstrap,
    check,
    effective,
    fit_law,
    linear,
    parabola,
)

HAND = Law(E=1.0, A=8.0, B=16.0, alpha=0.5, beta=0.5)


def runs(law, n=40, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    N, D = 10 ** rng.uniform(4, 6, n), 10 ** rng.uniform(5.5, 7, n)
    return N, D, law.loss(N, D) * np.exp(noise * rng.normal(size=n))


def test_the_hand_example():
    """N = 64, D = 16: 1 + 8/8 + 16/4 = 6; the same FLOPs on 16 and 64: 1 + 8/4 + 16/8 = 5."""
    loss = HAND.loss(64, 16)
    assert loss == 6.0
    N, D = HAND.best(6 * 64 * 16)
    assert pytest.approx([16, 64]) == [N, D]
    assert HAND.loss(N, D) == pytest.approx(5.0)


def test_the_best_split_is_lower_than_any_other_of_the_same_budget():
    law = Law(0.3, 20.0, 300.0, 0.31, 0.44)
    N, D = law.best(1e12)
    assert pytest.approx(1e12) == 6 * N * D
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert law.loss(N * factor, D / factor) > law.loss(N, D)


def test_the_best_size_grows_as_a_power_of_the_budget():
    law = Law(0.3, 20.0, 300.0, 0.31, 0.44)
    (n, d), (N, D) = law.best(1e12), law.best(1e14)
    assert N / n == pytest.approx(100 ** (0.44 / 0.75))
    assert D / d == pytest.approx(100 ** (0.31 / 0.75))
    assert law.best(1e12, per_parameter=12.0)[0] == pytest.approx(law.best(5e11)[0])


@pytest.mark.parametrize("law", [Law(0.25, 8.0, 40.0, 0.35, 0.42),
                                 Law(1.7, 400.0, 410.0, 0.34, 0.28),
                                 Law(0.0, 3.0, 900.0, 0.1, 0.5)])
def test_a_law_without_noise_is_found_again(law):
    found = fit_law(*runs(law))
    assert pytest.approx((law.E, law.A, law.B), rel=2e-2, abs=2e-3) == (found.E, found.A, found.B)
    assert (found.alpha, found.beta) == pytest.approx((law.alpha, law.beta), rel=5e-3)
    assert found.spread < 1e-5


def test_spread_is_the_relative_noise():
    law = Law(0.25, 8.0, 40.0, 0.35, 0.42)
    found = fit_law(*runs(law, 400, noise=0.02))
    assert found.spread == pytest.approx(0.02, rel=0.1)
    assert found.alpha == pytest.approx(0.35, abs=0.03)


def test_a_floor_that_is_known_is_kept():
    law = Law(0.25, 8.0, 40.0, 0.35, 0.42)
    N, D, L = runs(law)
    found = fit_law(N, D, L, E=0.25)
    assert found.E == 0.25 and found.spread < 1e-5
    assert (found.alpha, found.beta) == pytest.approx((0.35, 0.42), rel=5e-3)
    wrong = fit_law(N, D, L, E=0.1)                           # the others do what they can
    assert wrong.E == 0.1 and wrong.spread > 1e-4
    assert wrong.beta < 0.3
    assert laws.bounded(N, D, L, 0.25, 3)[0] == found


def test_no_law_near_the_fit_is_nearer():
    """An independent check of the search: every coefficient moved makes the error larger."""
    N, D, L = runs(Law(0.25, 8.0, 40.0, 0.35, 0.42), noise=0.02)
    best = fit_law(N, D, L)

    def error(**change):
        law = Law(**{**vars(best), **change})
        return float((((law.loss(N, D) - L) / L) ** 2).mean()) ** 0.5

    assert error() == pytest.approx(best.spread, rel=1e-6)
    for name in ("E", "A", "B", "alpha", "beta"):
        for factor in (0.98, 1.02):
            assert error(**{name: getattr(best, name) * factor}) > best.spread


def test_coefficients_never_fall_below_zero():
    """Losses that fall to less than a positive E allows: E is 0, not negative."""
    N, D, _ = runs(HAND)
    found = fit_law(N, D, 5 * N ** -0.2 + 5 * D ** -0.2 - 0.05)
    assert found.E >= 0 and found.A >= 0 and found.B >= 0


def test_weights_are_the_least_squares_over_all_that_are_not_negative():
    rng = np.random.default_rng(3)
    rows, target = rng.normal(size=(50, 8, 3)), rng.uniform(0.5, 1.5, 8)
    errors, weights = linear(rows, target)
    assert (weights >= 0).all()
    for g in range(50):
        trials = np.abs(rng.normal(size=(2000, 3))) * rng.integers(0, 2, (2000, 3))
        assert errors[g] <= ((trials @ rows[g].T - target) ** 2).sum(axis=1).min() + 1e-9
        if weights[g].any():
            assert errors[g] == pytest.approx(((rows[g] @ weights[g] - target) ** 2).sum())


def test_a_parabola_has_its_lowest_point_where_it_was_put():
    N = np.array([1e4, 2e4, 8e4, 3e5])
    L = 1.5 + 0.1 * (np.log(N) - np.log(5e4)) ** 2
    assert parabola(N, L)[:2] == pytest.approx((5e4, 1.5))
    assert parabola(N, L)[2]
    assert not parabola(N[:3] / 10, 1.5 + 0.1 * (np.log(N[:3] / 10) - np.log(5e4)) ** 2)[2]
    assert not parabola(N, -L)[2]
    with pytest.raises(ValueError, match="2 different sizes"):
        parabola([1, 1, 2], [3, 4, 5])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside, rng = 0, np.random.default_rng(5)
    for trial in range(16):
        N, D, L = runs(Law(0.25, 8.0, 40.0, 0.35, 0.42), 24, 0.01, trial)
        fits = bootstrap(fit_law, (N, D, L), rng, 24)
        low, high = np.percentile([law.alpha for law in fits], [2.5, 97.5])
        inside += low <= 0.35 <= high
    assert 11 <= inside <= 16


def test_a_bootstrap_draws_whole_runs():
    rng = np.random.default_rng(0)
    drawn = bootstrap(lambda a, b: (a, b), (np.arange(9), 10 * np.arange(9)), rng, 30)
    assert len(drawn) == 30
    assert all((b == 10 * a).all() and len(a) == 9 for a, b in drawn)
    assert any(len(np.unique(a)) < 9 for a, _ in drawn)
    assert all(len(np.unique(a)) > 4 for a, _ in drawn)


def test_six_flops_a_parameter_and_token_less_what_attention_adds():
    """6N counts each weight once forward and twice back; the rest of a step is 12·L·T·C."""
    for C, (L, _) in models.SHAPES.items():
        shape = models.config(C)
        N = count_parameters(shape)
        vectors = L * 13 * C + 2 * C                    # gains and biases: added, not multiplied
        assert 3 * count_flops(shape) == 6 * (N - vectors) + 12 * L * models.T * C


@pytest.fixture(scope="module")
def text():
    return models.tales(60, 6)


@pytest.mark.parametrize("C, N, table, over", [(8, 8928, 0.80, 1.63), (32, 54_144, 0.53, 1.42),
                                               (96, 421_728, 0.20, 1.24),
                                               (384, 10_991_616, 0.03, 1.07)])
def test_the_notes_table_of_where_6N_fails(C, N, table, over):
    shape = models.config(C)
    assert count_parameters(shape) == N
    assert pytest.approx(table, abs=0.005) == models.V * C / N
    assert 3 * count_flops(shape) / (6 * N) == pytest.approx(over, abs=0.005)


@pytest.mark.parametrize("C", [8, 24, 96])
def test_a_budget_pays_for_forward_and_backward(C):
    """Twice the forward again for the backward: 3 times count_flops for each token."""
    N, D, flops = laws.size_on(C, 1e11)
    assert flops == 3 * count_flops(models.config(C)) * D == pytest.approx(1e11, rel=1e-2)
    assert count_parameters(models.config(C)) == N
    assert models.steps_of(C, 1e11) * models.T == D
    assert models.steps_of(C, 1.0) == 1                       # never none


def test_windows_of_stories_begin_with_a_story_and_targets_follow_inputs(text):
    inputs, targets = next(models.windows(text, np.random.default_rng(0)))
    assert inputs.shape == targets.shape == (1, models.T)
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    first = {int(text.train[s]) for s in text.starts}
    assert inputs[0, 0] in first and len(first) <= 3


def test_each_round_meets_every_window_once(text):
    n = len(text.starts)
    drawn = models.windows(text, np.random.default_rng(0))
    rounds = [[next(drawn)[0].tobytes() for _ in range(n)] for _ in range(2)]
    assert len(set(rounds[0])) == n and sorted(rounds[0]) == sorted(rounds[1])
    assert rounds[0] != rounds[1]


def test_few_windows_are_the_same_few_in_every_round(text):
    drawn = models.windows(text, np.random.default_rng(0), few=5)
    rounds = [{next(drawn)[0].tobytes() for _ in range(5)} for _ in range(4)]
    assert all(len(r) == 5 and r == rounds[0] for r in rounds)
    other = models.windows(text, np.random.default_rng(1), few=5)
    assert {next(other)[0].tobytes() for _ in range(5)} != rounds[0]


def test_held_out_stories_are_new_and_their_floor_is_the_grammars(text):
    told = text.train.tobytes()
    count = 0
    for inputs, targets in text.report:
        for row, target in zip(inputs, targets):
            n = int((target != -100).sum())
            assert row[:n].tobytes() not in told
            assert (target[n:] == -100).all() and (row[1:n] == target[:n - 1]).all()
            count += n
    assert 0.15 < text.floor < 0.4
    assert sum(len(part[0]) for part in text.report) == 6
    assert models.first_probability("Once upon") == 5 / 8
    mean = GRAMMAR.entropy() / GRAMMAR.expected_length() / text.tokens
    assert text.floor == pytest.approx(mean, rel=0.15)


def test_repeated_tokens_are_worth_less_and_never_more_than_R():
    assert effective(100.0, 3, 2.0) == pytest.approx(226.4, abs=0.05)       # by hand
    assert effective(100.0, 1, 15.4) == 100.0                   # one reading: nothing repeated
    assert effective(100.0, 2, 15.4) == pytest.approx(100 + 1540 * (1 - math.exp(-1 / 15.4)))
    assert effective(100.0, 1e6, 15.4) == pytest.approx(1640)
    assert effective(100.0, 3, 1e9) == pytest.approx(300)       # as good as new
    k = np.arange(1, 40)
    gain = np.diff(effective(1.0, k, 3.0))
    assert (gain > 0).all() and (np.diff(gain) < 0).all() and gain[0] < 1
    for epochs, R in ((0.5, 3), ([1, 0.9], 3), (2, 0), (2, -1)):
        with pytest.raises(ValueError, match="epochs ≥ 1 and R > 0"):
            effective(1.0, epochs, R)


def test_without_one_of_the_terms_there_is_no_best_size():
    for law in (Law(1, 0, 1, 0.5, 0.5), Law(1, 1, 0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="no size is the best"):
            law.best(1e6)


@pytest.mark.parametrize("columns, words", [
    (([1, 2], [1, 2], [1, 2]), "2 runs cannot fix 5"),
    (([1] * 6, [1] * 7, [1] * 6), r"\(6,\), \(7,\)"),
    (([1] * 6, [1] * 6, [0] * 6), "positive and finite"),
    (([1] * 6, [1] * 6, [math.nan] * 6), "positive and finite"),
])
def test_bad_columns_are_refused(columns, words):
    with pytest.raises(ValueError, match=words):
        check(5, *columns)
    with pytest.raises(ValueError, match=words):
        fit_law(*columns)


def test_six_runs_are_enough_for_five_unknowns_and_five_are_not():
    N, D, L = (column[:6] for column in runs(HAND))
    fit_law(N, D, L)
    with pytest.raises(ValueError, match="5 runs cannot fix 5"):
        fit_law(N[:5], D[:5], L[:5])


def record(law, noise=0.0):
    """A sweep whose losses follow a law."""
    rng, runs = np.random.default_rng(1), []
    for budget, widths in {4e10: (8, 12, 16, 24, 32), 1.6e11: (12, 16, 24, 32, 48, 64),
                           6.4e11: (24, 32, 48, 64, 96)}.items():
        for C in widths:
            for seed in range(2):
                N, D, flops = laws.size_on(C, budget)
                loss = law.loss(N, D) * math.exp(noise * rng.normal())
                runs.append({"part": "sweep", "text": "stories", "C": C, "steps": D // models.T,
                             "seed": seed, "budget": budget, "N": N, "D": D, "report": loss})
    return runs


TRUTH = Law(0.25, 60.0, 700.0, 0.55, 0.6)


def test_the_best_size_grows_with_the_true_cost_of_a_token():
    """FLOPs = κ·N^γ·D: a fine grid over N finds the exponent β/(α + γβ)."""
    N, kappa, g = np.geomspace(1e3, 1e9, 200_001), 50.0, 0.9
    F = np.array([1e11, 1e13])
    best = [N[TRUTH.loss(N, f / (kappa * N ** g)).argmin()] for f in F]
    slope = math.log(best[1] / best[0]) / math.log(100)
    assert laws.share(TRUTH, g) == pytest.approx(slope, abs=1e-4)
    assert laws.share(TRUTH, 1) == pytest.approx(0.6 / 1.15)
    assert laws.flops_growth() == pytest.approx(0.93, abs=0.005)
    assert laws.share(TRUTH) == laws.share(TRUTH, laws.flops_growth())
    small, large = models.config(8), models.config(64)
    ends = math.log(count_flops(large) / count_flops(small)) / math.log(
        (count_parameters(large) - 896 * 64) / (count_parameters(small) - 896 * 8))
    assert laws.flops_growth(table=0) == pytest.approx(ends, abs=0.05)


def test_short_runs_and_other_texts_are_not_fitted():
    runs = record(TRUTH)
    kept = laws.swept([*runs, {**runs[0], "text": "other"}, {**runs[0], "part": "rates"},
                       {**runs[0], "steps": laws.FEWEST}], "stories")
    assert len(kept) == 1 + sum(run["steps"] >= laws.FEWEST for run in runs) < len(runs)
    assert {run["text"] for run in kept} == {"stories"}


def test_a_prediction_names_the_best_width_and_what_it_reaches():
    runs = record(TRUTH, noise=0.01)
    told = laws.predict(runs, "stories", 2.56e12, 0.25, 60)
    best = min(models.SHAPES, key=lambda C: TRUTH.loss(*laws.size_on(C, 2.56e12)[:2]))
    assert told["C"] == best and told["steps"] == models.steps_of(best, 2.56e12)
    truth = TRUTH.loss(*laws.size_on(best, 2.56e12)[:2])
    assert told["interval"][0] < truth < told["interval"][1]
    assert told["predicted"] == pytest.approx(truth, rel=0.02)
    assert told["widths"][str(best)] == told["predicted"]
    assert told["bounded"]["predicted"] == pytest.approx(truth, rel=0.03)
    assert "bounded" not in laws.predict(runs, "stories", 2.56e12, None, 3)    # nobody knows it
    assert told["bounded"]["predicted"] != told["predicted"]


def test_an_interval_for_one_run_is_wider_than_the_laws():
    N, D, L = laws.columns(laws.swept(record(TRUTH, noise=0.03), "stories"))
    _, law, fits = laws.fitted(N, D, L, 60)
    point = laws.size_on(48, 2.56e12)[:2]
    mean = laws.interval([fit.loss(*point) for fit in fits])
    one = laws.foretell(law, fits, (N, D, L), 48, 2.56e12, np.random.default_rng(0))[1]
    assert one[1] - one[0] > mean[1] - mean[0] > 0
    assert laws.interval(range(1001)) == [25, 975]


def test_valleys_and_the_law_agree_on_a_law():
    line = laws.valley_line(record(TRUTH), 20)
    for budget, N, L, inside in line["rows"]:
        best = min(models.SHAPES, key=lambda C: TRUTH.loss(*laws.size_on(C, budget)[:2]))
        assert inside and 0.5 < N / laws.size_on(best, budget)[0] < 2
        assert TRUTH.loss(*laws.size_on(best, budget)[:2]) == pytest.approx(L, rel=0.03)
    assert line["slope"] == pytest.approx(laws.share(TRUTH), abs=0.12)
    assert line["interval"][0] <= line["slope"] <= line["interval"][1]
    assert laws.slope([[1e10, 10.0, 0, True], [1e12, 1000.0, 0, True], [1e12, 1.0, 0, False]]
                      ) == pytest.approx(1)
    assert laws.valleys({1e10: {10: 3.0, 1000: 2.0, 100_000: 3.0}}) == []       # too far apart


def test_noise_is_the_spread_over_seeds():
    runs = [{"budget": 1, "N": N, "report": L} for N, L in ((5, 0.98), (5, 1.02), (6, 3.0))]
    sd, n = laws.noise(runs)
    assert n == 1 and sd == pytest.approx(0.02 * 2 ** 0.5)
    assert laws.noise(record(TRUTH, noise=0.02))[0] == pytest.approx(0.02, rel=0.5)


def test_the_worth_of_repetition_is_found_again():
    law, D, runs = Law(0.25, 10.0, 500.0, 0.5, 0.5), 160_000, []
    for k in (1, 2, 4, 8, 32):
        for seed in range(2):
            for part, worth in (("repeat", effective(D / k, k, 5.0)), ("once", D / k)):
                runs.append({"part": part, "text": "stories", "k": k, "seed": seed, "D": D,
                             "report": law.loss(5e4, worth) + 0.001 * seed})
    found = laws.repeated(runs, "stories", law)
    assert found["R"] == pytest.approx(5, rel=0.03) and found["D"] == D
    k, mean, spread, once, _ = found["rows"][1]
    assert k == 2 and spread == pytest.approx(0.001 / 2 ** 0.5) and mean < once
    assert mean == pytest.approx(law.loss(5e4, effective(D / 2, 2, 5.0)) + 0.0005)


def test_rates_are_found_between_neighbours_and_a_rule_through_them():
    def run(C, steps, rate):
        best = 0.2 / C * steps ** 0.1
        return {"part": "rates", "text": "stories", "C": C, "steps": steps, "rate": rate,
                "choose": 1 + math.log(rate / best) ** 2}

    runs = [run(C, n, 0.2 / C * n ** 0.1 * x) for C in (8, 32) for n in (100, 1000)
            for x in (0.6, 0.9, 1.35)]
    rows = rates.best_rates([*runs, {"part": "sweep"}])
    assert len(rows) == 4 and all(row[-1] for row in rows)
    (k, p, q), worst = rates.rule_of_rates(rows)
    assert [k, p, q] == pytest.approx([0.2, -1, 0.1]) and worst == pytest.approx(1)
    assert not rates.best_rates(runs[:2])[0][-1]              # the lowest at the grid's edge


@pytest.fixture(scope="module")
def result():
    return measure(fast=True, seed=0)


def test_the_run_predicts_a_larger_budget_than_it_fitted(result):
    assert result.budget == 2 * 8e8 > max(row[3] for row in result.runs)
    assert len(result.runs) == 6 and len(result.reached) == 2
    assert result.reached[0] != result.reached[1]              # two starts
    assert result.interval[0] < result.interval[1]
    law = laws.law_of(result.law)
    for C, N, D, flops, L, told in result.runs:
        assert D % models.T == 0 and flops == 3 * count_flops(models.config(C)) * D
        assert told == law.loss(N, D) and 0 < L < 2 * math.log(models.V)
    widths = {row[0] for row in result.runs}
    assert min(widths, key=lambda C: law.loss(*laws.size_on(C, result.budget)[:2])) == result.C
    assert result.predicted == law.loss(*laws.size_on(result.C, result.budget)[:2])
