"""Day 06 · Claims about smoothing: every distribution sums to 1, and Kneser–Ney wins."""

import importlib
from collections import Counter, defaultdict

import numpy as np
import pytest

from llm.models.counts import level, pack
from llm.models.ngram import NGram
from llm.models.smoothing import FALLBACK, SMOOTHINGS, count, discounts

LETTERS = "fgsxy"  # f follows s alone; g follows x and y
TOY = np.array([LETTERS.index(c) for c in "sfsfsfxgyg"])


def oracle(ids, context, vocab_size, smoothing, order, k, alpha, discount):
    """P(· | context) from dictionaries and the textbook formulas: slow, recursive, float64."""
    ids = [int(i) for i in ids]

    def table(n):
        """context → Counter of what follows, for runs of n tokens."""
        plain = [tuple(ids[t:t + n]) for t in range(len(ids) - n + 1)]
        if smoothing == "kneser-ney" and n < order:
            longer = {tuple(ids[t:t + order]) for t in range(len(ids) - order + 1)}
            for _ in range(order - n):  # distinct runs, then cut the oldest token
                plain = [run[1:] for run in longer]
                longer = set(plain)
        out = defaultdict(Counter)
        for run in plain:
            out[run[:-1]][run[-1]] += 1
        return out

    def solve(n):
        uniform = np.full(vocab_size, 1 / vocab_size)
        lower = uniform if n == 1 or smoothing == "add-k" else solve(n - 1)
        if len(context) < n - 1:
            return lower
        followers = table(n)
        c = followers[tuple(context[len(context) - n + 1:])]
        if not c:
            return lower
        counts = np.array([c[w] for w in range(vocab_size)], float)
        total, seen = counts.sum(), counts > 0
        if smoothing == "add-k":
            return (counts + k) / (total + k * vocab_size)
        if smoothing == "interpolated":
            return (counts + alpha * lower) / (total + alpha)
        if discount is None:
            how_often = Counter(v for f in followers.values() for v in f.values())
            n1, n2, n3, n4 = (how_often[r] for r in (1, 2, 3, 4))
            steps = FALLBACK
            if n1 and n2 and n3 and n4:
                y = n1 / (n1 + 2 * n2)
                d = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
                steps = d if (d > 0).all() else FALLBACK
        else:
            steps = np.full(3, discount)
        cut = np.where(seen, steps[np.clip(counts.astype(int) - 1, 0, 2)], 0)
        kept, free = (counts - cut) / total, cut.sum() / total
        if smoothing != "backoff":
            return kept + free * lower
        if seen.all():
            return kept / kept.sum()
        return np.where(seen, kept, free * lower / lower[~seen].sum())

    return solve(order)


def test_san_francisco_by_hand():
    """After g only y was seen. Counting plainly, f is likely next; f follows s and nothing else."""
    options = {"order": 2, "vocab_size": 5, "discount": 0.5}
    plain = NGram.fit(TOY, smoothing="absolute", **options).distribution(np.array([1]))
    clever = NGram.fit(TOY, smoothing="kneser-ney", **options).distribution(np.array([1]))
    np.testing.assert_allclose(plain, [3 / 20, 2 / 20, 3 / 20, 1 / 20, 11 / 20])
    np.testing.assert_allclose(clever, [1 / 12, 2 / 12, 1 / 12, 1 / 12, 7 / 12])


def test_add_one_by_hand():
    p = NGram.fit(TOY, 2, 5, "add-k", k=1).distribution(np.array([1]))
    np.testing.assert_allclose(p, np.array([1, 1, 1, 1, 2]) / 6)


def test_discounts_by_hand():
    counts = np.repeat([1, 2, 3, 4], [100, 50, 30, 20])
    np.testing.assert_allclose(discounts(counts), [0.5, 1.1, 5 / 3])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order,vocab_size", [(1, 3), (2, 1), (2, 5), (3, 4), (4, 84)])
def test_every_context_sums_to_one(smoothing, order, vocab_size):
    rng = np.random.default_rng(order)
    ids = np.minimum(rng.geometric(0.3, 400) - 1, vocab_size - 1)
    model = NGram.fit(ids, order, vocab_size, smoothing)
    assert len(model.lengths) == len(model.levels) and model.lengths[-1] == order
    for _ in range(40):  # most of these contexts were never seen
        p = model.distribution(rng.integers(0, vocab_size, rng.integers(0, 6)))
        assert p.shape == (vocab_size,)
        assert p.min() > 0
        assert np.isclose(p.sum(), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("discount", [None, 0.75])
@pytest.mark.parametrize("order,vocab_size,length",
                         [(1, 4, 50), (2, 3, 6), (2, 2, 300), (3, 5, 400), (5, 3, 200), (4, 4, 4)])
def test_agrees_with_the_textbook_formula(smoothing, discount, order, vocab_size, length):
    rng = np.random.default_rng(length)
    ids = np.minimum(rng.geometric(0.4, length) - 1, vocab_size - 1).astype(np.int32)
    model = NGram.fit(ids, order, vocab_size, smoothing, k=0.3, alpha=2.0, discount=discount)
    for _ in range(12):
        context = rng.integers(0, vocab_size, rng.integers(0, order + 2))
        expected = oracle(ids, context, vocab_size, smoothing, order, 0.3, 2.0, discount)
        np.testing.assert_allclose(model.distribution(context), expected, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_scores_of_a_text_are_its_distributions(smoothing):
    rng = np.random.default_rng(2)
    train, text = rng.integers(0, 6, 500), rng.integers(0, 6, 60)
    model = NGram.fit(train, 4, 6, smoothing)
    expected = [np.log(model.distribution(text[:t])[text[t]]) for t in range(60)]
    lp = model.log_probabilities(text)
    assert lp.dtype == np.float64
    np.testing.assert_allclose(lp, expected, atol=1e-12)


def test_continuation_counts_are_distinct_left_neighbours():
    ids = np.random.default_rng(3).integers(0, 4, 120)
    levels = count(ids, 3, 4, "kneser-ney")
    for n in (1, 2):
        left = defaultdict(set)
        for t in range(2 - n, len(ids) - n):  # at each level the first run has no left neighbour
            left[tuple(ids[t + 1:t + 1 + n])].add(int(ids[t]))
        got = dict(zip(levels[n - 1].grams.tolist(), levels[n - 1].counts.tolist()))
        assert got == {int(pack(np.array(g), n, 4)[0]): len(s) for g, s in left.items()}


def test_kneser_ney_keeps_the_marginals():
    """Σ over contexts of count · P(w | context) is how often w followed anything (Derive 5)."""
    ids = np.random.default_rng(5).zipf(1.6, 3000) % 12
    seen, after = np.bincount(ids[:-1], minlength=12), np.bincount(ids[1:], minlength=12)

    def marginal(smoothing):
        model = NGram.fit(ids, 2, 12, smoothing, discount=0.7)
        return sum(n * model.distribution(np.array([h])) for h, n in enumerate(seen))

    np.testing.assert_allclose(marginal("kneser-ney"), after, rtol=1e-12)
    assert np.abs(marginal("absolute") - after).max() > 1


def test_add_k_is_the_mean_of_a_dirichlet_posterior():
    rng = np.random.default_rng(6)
    ids = rng.integers(0, 3, 12)
    p = NGram.fit(ids, 1, 3, "add-k", k=2.0).distribution(np.array([], np.int64))
    drawn = rng.dirichlet(np.bincount(ids, minlength=3) + 2.0, 200_000).mean(axis=0)
    np.testing.assert_allclose(p, drawn, atol=2e-3)


def test_generates_what_the_distribution_says():
    model = NGram.fit(TOY, 2, 5)
    out = model.generate(3000, np.random.default_rng(0), np.array([1]))
    assert out.dtype == np.int32
    assert out.shape == (3000,)
    after_s = out[1:][out[:-1] == 2]
    p = model.distribution(np.array([2]))
    np.testing.assert_allclose(np.bincount(after_s, minlength=5) / len(after_s), p, atol=0.05)
    assert np.array_equal(out, model.generate(3000, np.random.default_rng(0), np.array([1])))


def test_mixing_two_models_by_their_scores_is_a_model():
    """What day 16 does with a network: average probabilities of the same tokens."""
    rng = np.random.default_rng(8)
    train, text = rng.integers(0, 4, 300), rng.integers(0, 4, 40)
    models = [NGram.fit(train, n, 4) for n in (1, 4)]
    one, two = (model.log_probabilities(text) for model in models)
    mixed = np.logaddexp(one, two) - np.log(2)
    for t in range(4, 40):
        rows = np.mean([m.distribution(text[t - m.order + 1:t]) for m in models], axis=0)
        assert rows.sum() == pytest.approx(1)
        assert mixed[t] == pytest.approx(np.log(rows[text[t]]))


def test_a_run_seen_once_in_a_context_seen_once_is_counted_apart():
    """TOY-like: a→b twice, a→c once, d→e once: of two runs seen once, one is alone."""
    from days.day06.run import alone
    ids = np.array([0, 1, 0, 1, 0, 2, 3, 4])         # 01 ×2, 10 ×2, 02, 23, 34 once
    share, y, without = alone(NGram.fit(ids, 2, 5).levels[-1])
    assert share == 2 / 3 and y == 3 / (3 + 4) and without == 1 / (1 + 4)


def test_empty_texts_and_single_tokens():
    model = NGram.fit(TOY, 3, 5)
    assert model.log_probabilities(np.array([], np.int64)).shape == (0,)
    assert model.log_probabilities(np.array([4])).shape == (1,)
    assert model.generate(0, np.random.default_rng(0)).shape == (0,)
    assert np.isclose(NGram.fit(np.array([0]), 1, 2).distribution(np.array([], int)).sum(), 1)
    assert level(np.array([], np.uint64), 3).per_context(np.array([])).shape == (0,)


def test_a_token_never_seen_still_has_a_chance():
    for smoothing in SMOOTHINGS:
        model = NGram.fit(np.array([0, 1, 0, 1, 0]), 2, 4, smoothing)
        assert np.isfinite(model.log_probabilities(np.array([3, 2, 3, 0]))).all()


def test_errors_name_shapes_and_the_cure():
    with pytest.raises(ValueError, match=r"\(10,\) hold no run of 11"):
        NGram.fit(TOY, 11, 5)
    with pytest.raises(ValueError, match=r"use 1 … 5"):
        NGram.fit(TOY, 6, 4096)
    with pytest.raises(ValueError, match="use one of add-k, interpolated, backoff"):
        NGram.fit(TOY, 2, 5, "good-turing")
    with pytest.raises(ValueError, match="between 0 and 1"):
        NGram.fit(TOY, 2, 5, discount=1.0)
    with pytest.raises(ValueError, match="above 0"):
        NGram.fit(TOY, 2, 5, "add-k", k=0)
    with pytest.raises(ValueError, match=r"outside 0 … 3"):
        NGram.fit(TOY, 2, 4)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        NGram.fit(TOY, 2, 5).log_probabilities(np.zeros((1, 2), int))


def test_headline_kneser_ney_beats_the_rest_on_held_out_text():
    result = importlib.import_module("days.day06.run").measure(fast=True, seed=0)
    best = {name: min(nats) for name, nats in zip(result.names, result.validation)}
    assert best["modified KN"] == min(best.values())
    assert best["modified KN"] < best["add-k"] - 0.05
    assert best["KN .75"] < best["absolute"]
    assert all(0 < d < 1.5 for d in result.lost)
    names, cuts, orders, nats = zip(*result.chosen)
    assert names == ("one, 0.75", "one, the best", "three") and cuts[0] == 0.75 and not cuts[2]
    assert cuts[1] in (0.75, 0.9) and set(orders) <= {5, 6, 7} and max(nats) < 2.5


@pytest.mark.parametrize("discount", [0.5, 1e-9, 1e-17, 1e-100])
@pytest.mark.parametrize("ids", [[0] * 50, [0, 1] * 25, [0, 0, 1] * 20 + [2]])
def test_back_off_with_a_tiny_discount_is_still_a_distribution(ids, discount):
    model = NGram.fit(np.array(ids), 3, 4, "backoff", discount=discount)
    for context in ([0, 0], [0, 1], [1, 0], [2], []):
        p = model.distribution(context)
        assert (p > 0).all() and p.sum() == pytest.approx(1)
    once = NGram.fit(np.zeros(50, int), 3, 4, "backoff", discount=discount)
    assert once.distribution([0, 0])[1] == pytest.approx(discount / 48 / 3, rel=1e-12)


def test_without_runs_that_were_seen_four_times_the_discounts_are_the_usual_ones():
    assert discounts(np.array([1, 1, 2, 3])).tolist() == [0.5, 1.0, 1.5]


def test_a_discount_of_nothing_would_leave_unseen_tokens_nothing_so_the_usual_ones_are_taken():
    none = np.repeat([1, 2, 3, 4], [6, 3, 4, 1])         # Y = 1/2, and 2 − 3 · 1/2 · 4/3 = 0
    assert discounts(none).tolist() == [0.5, 1.0, 1.5]


def test_before_the_first_level_all_tokens_are_equally_likely_so_the_unseen_share_is_their_number():
    tokens = level(pack(np.array([0, 0, 2, 0, 3]), 1, 5), 5)              # 3 of 5 were seen
    np.testing.assert_allclose(NGram(1, 5, "backoff").surely(tokens, None), [2 / 5])
