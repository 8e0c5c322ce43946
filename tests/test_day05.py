"""Day 05 · Claims about counting: runs, maximum likelihood, and the chain that speaks."""

import importlib
from collections import Counter

import numpy as np
import pytest

from days.day05.speech import known, letters_off, names, words
from llm.models.counts import checked, find, level, longest, pack
from llm.models.markov import MarkovChain

LETTERS = "abcdr"
WORD = np.array([LETTERS.index(c) for c in "abracadabra"])


def by_hand(ids, order, vocab_size):
    """The plain way: one counter per context."""
    table = {}
    for t in range(order, len(ids)):
        table.setdefault(tuple(ids[t - order:t].tolist()), Counter())[int(ids[t])] += 1
    return table


def test_abracadabra_by_hand():
    chain = MarkovChain.fit(WORD, 1, 5)
    expected = [[0, 1 / 2, 1 / 4, 1 / 4, 0],  # after a: b twice, c and d once
                [0, 0, 0, 0, 1],              # after b: r
                [1, 0, 0, 0, 0],              # after c: a
                [1, 0, 0, 0, 0],              # after d: a
                [1, 0, 0, 0, 0]]              # after r: a
    assert np.array_equal(chain.matrix(), expected)
    assert np.isclose(chain.log_probabilities(WORD).sum(), -6 * np.log(2))


def test_packed_runs_are_digits_in_base_v():
    assert pack(np.array([3, 1, 4, 1, 5]), 3, 10).tolist() == [314, 141, 415]
    assert pack(np.array([3, 1, 4]), 0, 10).tolist() == [0, 0, 0, 0]
    top = pack(np.full(10, 83, np.int32), 10, 84)
    assert int(top[0]) == 84**10 - 1 < 2**64


def test_longest_is_the_last_length_that_fits():
    for v in (2, 3, 84, 256, 4096, 50257, 2**32):
        assert v ** longest(v) <= 2**64 < v ** (longest(v) + 1)
    assert longest(1) == 64            # of one token any number would fit


@pytest.mark.parametrize("order", [0, 1, 2, 5])
@pytest.mark.parametrize("vocab_size", [1, 2, 5, 84])
def test_rows_sum_to_one_and_equal_the_counters(order, vocab_size):
    rng = np.random.default_rng(order + 10 * vocab_size)
    ids = rng.integers(0, vocab_size, 300).astype(np.int32)
    chain, table = MarkovChain.fit(ids, order, vocab_size), by_hand(ids, order, vocab_size)
    assert len(chain.counts.contexts) == len(table)
    for context, followers in table.items():
        p = chain.distribution(np.array(context, np.int32))
        assert np.isclose(p.sum(), 1)
        assert p.dtype == np.float64
        share = [followers[w] / followers.total() for w in range(vocab_size)]
        np.testing.assert_allclose(p, share, atol=1e-15)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_log_probabilities_follow_the_chain_rule(order):
    rng = np.random.default_rng(7)
    ids = rng.integers(0, 3, 200)
    chain = MarkovChain.fit(ids, order, 3)
    lp = chain.log_probabilities(ids)
    assert lp.shape == (200 - order,)
    for t in range(order, 200):
        assert np.isclose(np.exp(lp[t - order]), chain.distribution(ids[:t])[ids[t]])


def test_no_perturbed_table_beats_the_counts():
    rng = np.random.default_rng(3)
    ids = rng.choice(4, size=500, p=[0.5, 0.3, 0.15, 0.05])
    chain = MarkovChain.fit(ids, 1, 4)
    n = np.zeros((4, 4))
    np.add.at(n, (ids[:-1], ids[1:]), 1)
    best = chain.log_probabilities(ids).sum()
    for scale in (1e-3, 0.1, 1, 10):
        q = chain.matrix() * np.exp(scale * rng.standard_normal((4, 4))) + 1e-12
        q /= q.sum(axis=1, keepdims=True)
        assert (n * np.log(q)).sum() < best


def test_lost_likelihood_is_the_weighted_divergence():
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 3, 400)
    chain, p = MarkovChain.fit(ids, 1, 3), MarkovChain.fit(ids, 1, 3).matrix()
    n = np.zeros((3, 3))
    np.add.at(n, (ids[:-1], ids[1:]), 1)
    q = rng.dirichlet(np.ones(3), size=3)
    lost = chain.log_probabilities(ids).sum() - (n * np.log(q)).sum()
    divergence = (p * np.log(p / q)).sum(axis=1)  # KL of each row, nats
    assert np.isclose(lost, (n.sum(axis=1) * divergence).sum())


def test_longer_contexts_never_fit_the_same_characters_worse():
    ids = np.random.default_rng(5).integers(0, 4, 2000)
    loss = []
    for k in range(7):                 # all fitted to, and scored on, ids[6:]
        chain = MarkovChain.fit(ids[6 - k:], k, 4)
        loss.append(-chain.log_probabilities(ids[6 - k:]).mean())
    assert all(a >= b - 1e-12 for a, b in zip(loss, loss[1:]))
    assert loss[6] < 0.2 * loss[0]


def test_a_longer_context_can_fit_worse_when_it_scores_fewer_characters():
    ids = np.array([0, 0, 1])          # "aab": ln 2 a character with order 1, 0.637 with order 0
    zero, one = (-MarkovChain.fit(ids, k, 2).log_probabilities(ids).mean() for k in (0, 1))
    assert np.isclose(zero, (2 * np.log(1.5) + np.log(3)) / 3) and np.isclose(one, np.log(2))
    assert one > zero


def test_generated_text_has_only_transitions_of_the_book():
    ids = np.random.default_rng(6).integers(0, 5, 400)
    chain = MarkovChain.fit(ids, 2, 5)
    prompt = ids[10:12]
    out = chain.generate(300, np.random.default_rng(0), prompt)
    assert out.dtype == np.int32
    assert np.isfinite(chain.log_probabilities(np.concatenate([prompt, out]))).all()


def test_generated_frequencies_are_the_probabilities():
    chain = MarkovChain.fit(WORD, 1, 5)
    out = chain.generate(40_000, np.random.default_rng(1))
    again = MarkovChain.fit(out, 1, 5).matrix()
    np.testing.assert_allclose(again, chain.matrix(), atol=0.02)


def test_the_same_seed_says_the_same():
    chain = MarkovChain.fit(WORD, 1, 5)
    one, two = (chain.generate(50, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(one, two)


def test_what_was_never_seen_is_impossible():
    chain = MarkovChain.fit(WORD, 1, 5)
    assert np.array_equal(chain.log_probabilities(np.array([1, 1])), [-np.inf])
    with pytest.raises(ValueError, match=r"\[1, 1\] was never"):
        MarkovChain.fit(WORD, 2, 5).distribution(np.array([0, 1, 1]))
    with pytest.raises(ValueError, match=r"was never"):
        MarkovChain.fit(WORD, 2, 5).generate(3, np.random.default_rng(0), np.array([1, 1]))


def test_generation_stops_where_the_text_stopped():
    chain = MarkovChain.fit(np.array([0, 1, 2]), 1, 3)
    assert chain.generate(10, np.random.default_rng(0), np.array([0])).tolist() == [1, 2]
    assert chain.generate(0, np.random.default_rng(0)).shape == (0,)


def test_short_texts_and_empty_ones():
    chain = MarkovChain.fit(np.array([2]), 0, 3)
    assert np.array_equal(chain.distribution(np.array([], np.int64)), [0, 0, 1])
    assert chain.log_probabilities(np.array([], np.int64)).shape == (0,)
    assert MarkovChain.fit(WORD, 3, 5).log_probabilities(WORD[:3]).shape == (0,)
    index, found = find(np.array([], np.uint64), np.array([5], np.uint64))
    assert index.tolist() == [0]
    assert found.tolist() == [False]
    assert level(np.array([], np.uint64), 5).owner.shape == (0,)


def test_errors_name_shapes_and_the_cure():
    with pytest.raises(ValueError, match=r"\(3,\) hold no transition of order 3"):
        MarkovChain.fit(WORD[:3], 3, 5)
    with pytest.raises(ValueError, match=r"use 0 … 9"):
        MarkovChain.fit(WORD, 10, 84)
    for n in (11, -1):
        with pytest.raises(ValueError, match=f"runs of {n} tokens .* use 0 … 10 tokens"):
            pack(WORD, n, 84)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        checked(np.zeros((2, 2), int), 5)
    with pytest.raises(ValueError, match=r"outside 0 … 3"):
        MarkovChain.fit(WORD, 1, 4)
    with pytest.raises(ValueError, match=r"integers, got float64"):
        checked(np.array([0.5]), 5)
    with pytest.raises(ValueError, match=r"shape \(1,\) is shorter than the order 2"):
        MarkovChain.fit(WORD, 2, 5).distribution(np.array([0]))
    with pytest.raises(ValueError, match=r"order 2 has no"):
        MarkovChain.fit(WORD, 2, 5).matrix()


def test_words_have_three_letters_and_names_are_never_small():
    lexicon = {"the", "dog", "that's"}
    text = "The dog of th' king. That's Toby! Toby, a King. Dogs"
    assert words(text) == ["The", "dog", "king", "That's", "Toby", "Toby", "King", "Dogs"]
    assert known(text, lexicon) == 3 / 8
    assert names(text, lexicon) == 3 / 5            # Toby twice and Dogs; "king" was written small


def test_an_order_1_chain_writes_each_letter_about_as_often_as_a_book_that_is_a_ring():
    rng = np.random.default_rng(2)
    ids = rng.choice(5, 400, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    chain = MarkovChain.fit(np.append(ids, ids[0]), 1, 5)
    share = np.bincount(ids) / 400
    np.testing.assert_allclose(share @ chain.matrix(), share, atol=1e-15)     # stationary
    texts = [chain.generate(20_000, rng) for _ in range(3)]
    assert letters_off(texts, ids) < 0.01
    assert letters_off([np.zeros(4, int)], np.array([0, 0, 0, 1])) == 0.25


def test_headline_memory_fits_the_book_and_fails_on_the_rest():
    result = importlib.import_module("days.day05.run").measure(fast=True, seed=0)
    train, impossible = result.train_nats, result.impossible
    assert all(a > b for a, b in zip(train, train[1:]))
    assert all(a < b for a, b in zip(impossible, impossible[1:]))
    assert train[-1] < 0.5 * train[0]
    assert impossible[-1] > 0.1
    assert all(a < b for a, b in zip(result.copied, result.copied[1:]))
    assert all(low <= mean <= high
               for mean, (low, high) in zip(result.copied, result.copied_range))
    assert result.words[0] < result.words[3] < 1
    assert 0.2 < result.names < 1 and result.letters_off < 0.05


def test_the_last_probability_of_a_row_is_no_free_number():
    assert MarkovChain.fit(np.array([0, 1, 2, 3, 0, 1]), 2, 4).parameters == 4 * 4 * 3
