"""Day 09 · Softmax regression: the hand-made gradient, and descent to the counted bigram."""

import numpy as np
import pytest

from days.day09.rates import beyond_the_edge, edge_of_stability, gap_with_start
from days.day09.run import measure
from llm.functions.probability import cross_entropy, softmax
from llm.models.bigram import (
    count_pairs,
    counted_loss,
    descend,
    late_gap,
    loss_and_gradient,
    loss_and_gradient_of_counts,
    row_rates,
)
from llm.models.markov import MarkovChain

ABRA = np.array([0, 1, 0, 1, 1, 0])  # "ababba": the example of the note


def random_pairs(seed, vocab_size=7, n=200, dtype=np.float64):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(vocab_size, vocab_size)).astype(dtype)
    return w, rng.integers(0, vocab_size, n), rng.integers(0, vocab_size, n)


def test_the_hand_example():
    counts = count_pairs(ABRA, 2)
    assert counts.tolist() == [[0, 2], [2, 1]]
    loss, dw = loss_and_gradient_of_counts(np.zeros((2, 2)), counts)
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(dw, [[.2, -.2], [-.1, .1]], atol=1e-15)
    w = descend(np.zeros((2, 2)), counts, rate=1, steps=1)
    np.testing.assert_allclose(w, [[-.2, .2], [.1, -.1]], atol=1e-15)
    assert loss_and_gradient_of_counts(w, counts)[0] == pytest.approx(.6041, abs=5e-5)
    assert counted_loss(counts) == pytest.approx(.6 * np.log(3) - .4 * np.log(2))
    np.testing.assert_allclose(row_rates(counts), [[5], [10 / 3]])
    assert counted_loss([[0, 1], [2, 2]]) == pytest.approx(.8 * np.log(2))  # one pair costs nothing


@pytest.mark.parametrize("seed", range(5))
def test_gradient_rows_sum_to_zero(seed):
    w, contexts, targets = random_pairs(seed)
    dw = loss_and_gradient(w, contexts, targets)[1]
    np.testing.assert_allclose(dw.sum(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_counts_give_the_gradient_of_the_pairs(seed):
    w, contexts, targets = random_pairs(seed)
    counts = np.zeros(w.shape)
    for c, t in zip(contexts, targets):
        counts[c, t] += 1
    one, two = loss_and_gradient(w, contexts, targets), loss_and_gradient_of_counts(w, counts)
    assert one[0] == pytest.approx(two[0], abs=1e-12)
    np.testing.assert_allclose(one[1], two[1], atol=1e-15)


def test_gradient_equals_finite_differences():
    w, contexts, targets = random_pairs(1, vocab_size=4, n=30)
    dw = loss_and_gradient(w, contexts, targets)[1]
    for place in np.ndindex(w.shape):
        step = np.zeros(w.shape)
        step[place] = 1e-5
        slope = (cross_entropy((w + step)[contexts], targets)
                 - cross_entropy((w - step)[contexts], targets)) / 2e-5
        assert dw[place] == pytest.approx(slope, abs=1e-9)


def test_gradient_is_zero_at_the_counted_table():
    counts = np.array([[3., 1, 2], [1, 5, 1], [2, 2, 2]])
    loss, dw = loss_and_gradient_of_counts(np.log(counts), counts)  # softmax(log counts) = shares
    np.testing.assert_allclose(dw, 0, atol=1e-15)
    assert loss == pytest.approx(counted_loss(counts), abs=1e-12)


def test_counted_loss_is_the_brute_force_mean():
    ids = np.random.default_rng(2).integers(0, 4, 50)
    seen = {}
    for a, b in zip(ids[:-1].tolist(), ids[1:].tolist()):
        seen.setdefault(a, []).append(b)
    nll = [-np.log(seen[a].count(b) / len(seen[a])) for a, b in zip(ids[:-1], ids[1:])]
    assert counted_loss(count_pairs(ids, 4)) == pytest.approx(np.mean(nll), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_convex_between_any_two_tables(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (5, 5)) + np.eye(5)
    a, b = rng.normal(size=(2, 5, 5)) * 4
    loss = [loss_and_gradient_of_counts(a + t * (b - a), counts)[0] for t in (0, .3, 1)]
    assert loss[1] <= .7 * loss[0] + .3 * loss[2] + 1e-12


@pytest.mark.parametrize("each_row", [False, True])
def test_safe_rates_never_raise_the_loss(each_row):
    counts = np.random.default_rng(3).integers(0, 20, (6, 6)) ** 2 + np.eye(6)
    rates, losses = row_rates(counts), []
    descend(np.random.default_rng(4).normal(size=(6, 6)) * 5, counts,
            rates if each_row else rates.min(), 200, lambda _, loss, w: losses.append(loss))
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[-1] < losses[0]


def test_the_edge_of_stability_is_where_descent_stops_to_settle():
    counts = np.array([[5., 5], [3, 7]])                 # curvatures 1/2 · 1/2 and 1/2 · 2 · .21
    context, edge = edge_of_stability(counts)
    assert (context, edge) == (0, pytest.approx(8)) and row_rates(counts).min() == 4
    start = np.log(counts) + [[.01, -.01], [0, 0]]
    near, far = (loss_and_gradient_of_counts(descend(start, counts, rate, 2000), counts)[0]
                 - counted_loss(counts) for rate in (.99 * edge, 1.2 * edge))
    assert near < 1e-9 and far > 1e-3


def test_a_row_of_two_equal_counts_never_leaves_the_direction_in_which_it_settles():
    counts = np.zeros((3, 3))
    counts[:, :2] = 1                                    # the steepest rows there are
    rate = 1.5 * edge_of_stability(counts)[1]
    still, swung = (softmax(descend(start, counts, rate, 500))[0] for start in (
        np.zeros((3, 3)), np.array([[.01, 0, 0]] * 3)))
    assert still[0] == still[1] > .49
    assert abs(swung[0] - swung[1]) > .1


def test_late_gap_foretells_the_loss():
    counts = np.zeros((10, 10))
    counts[:, :4] = 25           # four tokens seen after each context, six never
    losses = []
    descend(np.zeros((10, 10)), counts, row_rates(counts), 2000,
            lambda _, loss, w: losses.append(loss))
    gap = losses[-1] - counted_loss(counts)
    assert gap * 2000 == pytest.approx(late_gap(counts, row_rates(counts)), rel=.02)


def test_the_law_that_knows_the_start_begins_at_what_is_missing_and_ends_as_the_late_law():
    counts = np.zeros((10, 10))
    counts[:, :4] = 25
    rates = row_rates(counts)
    assert gap_with_start(counts, rates, 0) == pytest.approx(.6)      # six of ten unseen
    assert gap_with_start(counts, rates, 2) == pytest.approx(.3)      # 1/p has doubled: ηs·t = n
    late = gap_with_start(counts, rates, 10**6) * 10**6
    assert late == pytest.approx(late_gap(counts, rates), rel=1e-5)


def test_only_rows_beyond_their_own_edge_do_not_settle():
    counts = np.zeros((4, 4))
    counts[0, :2] = 300, 700                            # a steep row and a flat rare one
    counts[1, :3] = 2, 1, 1
    rate = 1.3 * edge_of_stability(counts)[1]
    w = descend(np.zeros((4, 4)), counts, rate, 3000)
    rows, swinging, rest, law = beyond_the_edge(counts, w, rate, 3000)
    gap = loss_and_gradient_of_counts(w, counts)[0] - counted_loss(counts)
    assert rows == 1 and swinging + rest == pytest.approx(gap)
    assert swinging > 10 * rest and 0 < rest < 2 * law


def test_learned_table_equals_the_counted_one():
    counts = np.array([[6., 3, 1], [2, 2, 6], [1, 8, 1]])
    w = descend(np.zeros((3, 3)), counts, row_rates(counts), 500)
    np.testing.assert_allclose(softmax(w), counts / 10, atol=1e-6)


def test_descent_meets_day_05s_markov_chain():
    ids = np.random.default_rng(5).choice(4, 2000, p=[.4, .3, .2, .1])  # all 16 pairs occur
    chain, counts = MarkovChain.fit(ids, 1, 4), count_pairs(ids, 4)
    assert counted_loss(counts) == pytest.approx(-chain.log_probabilities(ids).mean(), abs=1e-12)
    w = descend(np.zeros((4, 4)), counts, row_rates(counts), 500)
    np.testing.assert_allclose(softmax(w), chain.matrix(), atol=1e-6)


def test_descend_leaves_its_input_and_stops_when_told():
    w, seen = np.zeros((2, 2)), []
    descend(w, count_pairs(ABRA, 2), 1, 50, lambda step, loss, w: seen.append(step) or step == 3)
    assert seen == [0, 1, 2, 3]
    seen.clear()
    descend(w, count_pairs(ABRA, 2), 1, 2, lambda step, loss, w: seen.append((step, w.copy())))
    assert [step for step, _ in seen] == [0, 1, 2]        # the last table is looked at, too
    assert (seen[2][1] == descend(w, count_pairs(ABRA, 2), 1, 2)).all()
    assert (w == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_the_weights_is_kept(dtype):
    w, contexts, targets = random_pairs(0, dtype=dtype)
    loss, dw = loss_and_gradient(w, contexts, targets)
    assert loss.dtype == dw.dtype == dtype
    counts = count_pairs(contexts, 7)
    loss, dw = loss_and_gradient_of_counts(w, counts)
    assert loss.dtype == dw.dtype == descend(w, counts, row_rates(counts), 2).dtype == dtype


def test_a_context_that_never_occurs_keeps_its_row():
    counts = count_pairs(ABRA, 3)
    w = np.arange(9.).reshape(3, 3)
    assert (descend(w, counts, row_rates(counts), 5)[2] == w[2]).all()
    assert np.isfinite(counted_loss(counts))


def test_wrong_shapes_are_told():
    w = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"\(V, V\), not \(3, 2\)"):
        loss_and_gradient(np.zeros((3, 2)), [0], [1])
    with pytest.raises(ValueError, match=r"\(2,\) and targets \(1,\)"):
        loss_and_gradient(w, [0, 1], [1])
    with pytest.raises(ValueError, match=r"\(0,\)"):
        loss_and_gradient(w, [], [])
    with pytest.raises(ValueError, match=r"targets \(1,\) run from -1"):
        loss_and_gradient(w, [0], [-1])
    with pytest.raises(ValueError, match=r"counts \(2, 2\) .* \(3, 3\)"):
        loss_and_gradient_of_counts(w, np.ones((2, 2)))
    with pytest.raises(ValueError, match="all zero"):
        loss_and_gradient_of_counts(w, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"not \(1,\)"):
        count_pairs([0], 3)
    with pytest.raises(ValueError, match="outside"):
        count_pairs([0, 3], 3)


def test_descent_reaches_the_loss_of_counting():
    result = measure(fast=True, seed=0)
    assert result.steps[3] is not None                    # within 1e-3 nats of counting
    assert 0 < result.gaps[3][-1][1] < 1e-3
    assert result.steps[3] == pytest.approx(result.predicted[3], rel=.1)
    assert result.steps_twice == pytest.approx(result.steps[3] / 2, rel=.05)   # as 1/t foretells
    assert result.gaps[2][-1][1] > .1                     # a rate far above the safe one does not
    assert result.edge > 1 and all(ratio < 1.2 for m, _, ratio in result.grid if m < result.edge)
    rare, often = np.argsort(result.shares)[[0, -1]]
    assert result.context_gaps[0][rare] > 10 * result.context_gaps[0][often]
