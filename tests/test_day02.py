"""Day 02: dot, norm, cosine and projection, and word vectors from counts."""

import json
import math

import numpy as np
import pytest

from days.day02 import run
from days.harness import plain
from llm.tensors import timing
from llm.tensors import vectors as v
from llm.tensors import word_vectors as wv
from llm.tensors.timing import seconds_each

CATS = "the cat sat. the dog sat. a cat ran. a dog ran. the king spoke. the queen spoke."


def test_the_hand_example():
    assert v.dot([3, 4], [4, 3]) == 24
    assert v.norm([3, 4]) == 5 and v.norm([4, 3]) == 5
    assert v.cosine([3, 4], [4, 3]) == 24 / 25
    assert v.project([3, 4], [2, 0]) == [3, 0]
    # the cat, the dog, a dog: co-occurrence within one place, then PPMI by hand
    tokens = ["the", "cat", "the", "dog", "a", "dog"]
    counts = wv.cooccurrence(tokens, ["dog", "the", "a", "cat"], window=1)
    assert counts.tolist() == [[0, 1, 2, 0], [1, 0, 0, 2], [2, 0, 0, 0], [0, 2, 0, 0]]
    m = wv.ppmi(counts, smoothing=1)
    assert m[0, 2] == pytest.approx(math.log((2 / 10) / (3 / 10 * 2 / 10)))      # ln 10/3
    assert m[0, 1] == pytest.approx(math.log((1 / 10) / (3 / 10 * 3 / 10)))
    assert m[0, 3] == 0 and m[2, 3] == 0                                         # never met


def test_cauchy_schwarz_and_the_triangle_hold():
    rng = np.random.default_rng(0)
    for _ in range(500):
        x, y = rng.standard_normal((2, rng.integers(1, 9))).tolist()
        slack = v.norm(x) * v.norm(y) - abs(v.dot(x, y))
        assert slack >= -1e-12
        assert v.norm(x) + v.norm(y) >= v.norm([a + b for a, b in zip(x, y)]) - 1e-12
        assert v.norm(x) * v.norm(x) - abs(v.dot(x, [-3 * a for a in x])) / 3 == pytest.approx(0)


def test_what_projection_leaves_is_normal_and_nearest():
    rng = np.random.default_rng(1)
    for _ in range(300):
        x, y = rng.standard_normal((2, 5)).tolist()
        rest = [a - b for a, b in zip(x, v.project(x, y))]
        assert v.dot(rest, y) == pytest.approx(0, abs=1e-12)
        other = [a - b * (v.dot(x, y) / v.dot(y, y) + 0.1) for a, b in zip(x, y)]
        assert v.norm(rest) < v.norm(other)


def test_plain_python_numpy_and_numba_agree():
    rng = np.random.default_rng(2)
    for n in (1, 2, 7, 64, 1000):
        x, y = rng.standard_normal((2, n)).astype(np.float32)
        exact = float(x.astype(np.float64) @ y)
        ways = (v.dot(x.tolist(), y.tolist()), v.dot_in_order(x, y), v.dot_any_order(x, y))
        assert all(way == pytest.approx(exact, abs=1e-4) for way in ways)
        rows = rng.standard_normal((3, n))
        by_hand = [v.cosine(row.tolist(), y.tolist()) for row in rows]
        np.testing.assert_allclose(v.cosines(rows, y.astype(np.float64)), by_hand, atol=1e-12)


def test_float32_stays_float32():
    x = np.ones((3, 2), np.float32)
    assert v.cosines(x, x[0]).dtype == np.float32
    assert v.unit_rows(x).dtype == np.float32
    assert v.dot_in_order(np.full(1, 3e38, np.float32), np.full(1, 10, np.float32)) == np.inf


def test_counts_equal_a_brute_force_over_all_pairs():
    rng = np.random.default_rng(3)
    vocab = list("abcd")
    for window in (1, 2, 5):
        tokens = [str(t) for t in rng.choice(list("abcdxy"), 60)]         # x, y: outside
        brute = np.zeros((4, 4))
        for i, w in enumerate(tokens):
            for j, c in enumerate(tokens):
                if i != j and abs(i - j) <= window and w in vocab and c in vocab:
                    brute[vocab.index(w), vocab.index(c)] += 1
        assert (wv.cooccurrence(tokens, vocab, window) == brute).all()


def test_independent_words_have_no_ppmi():
    left, right = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    np.testing.assert_allclose(wv.ppmi(np.outer(left, right), smoothing=1), 0, atol=1e-12)


def test_by_default_rare_company_counts_for_less():
    counts = np.array([[8.0, 4, 1], [4, 6, 2], [1, 2, 1]])         # the last word is rare
    plain_scores, smoothed = wv.ppmi(counts, smoothing=1), wv.ppmi(counts)
    assert smoothed[2, 2] < plain_scores[2, 2] and smoothed[0, 0] > plain_scores[0, 0]


def test_all_dimensions_give_back_the_scalar_products():
    m = np.random.default_rng(4).random((6, 6))
    x, s = wv.svd_vectors(m, 6)
    u = x / np.sqrt(s)
    np.testing.assert_allclose((u * s**2) @ u.T, m @ m.T, atol=1e-10)
    assert (np.diff(s) <= 0).all()


def test_no_rank_k_projection_beats_the_singular_vectors():
    rng = np.random.default_rng(5)
    m = rng.random((7, 7))
    x, s = wv.svd_vectors(m, 3)
    u = x / np.sqrt(s[:3])
    best = np.linalg.norm(m - u @ (u.T @ m))
    assert best == pytest.approx(np.sqrt((s[3:] ** 2).sum()))
    for _ in range(200):
        q = np.linalg.qr(rng.standard_normal((7, 3)))[0]
        assert np.linalg.norm(m - q @ (q.T @ m)) >= best


def test_words_in_the_same_company_become_neighbours():
    tokens = wv.words(CATS)
    vocab = wv.vocabulary(tokens, 20)
    company = wv.ppmi(wv.cooccurrence(tokens, vocab, 1))
    vectors = wv.WordVectors(vocab, wv.svd_vectors(company, 4)[0])
    assert vectors.neighbours("cat", 1)[0][0] == "dog"
    assert vectors.neighbours("king", 1)[0][0] == "queen"
    score = vectors.neighbours("cat", 1)[0][1]
    assert score == pytest.approx(v.cosine(vectors["cat"].tolist(), vectors["dog"].tolist()))


def test_an_analogy_is_an_addition():
    plane = {"man": [1, 0], "woman": [1, 1], "king": [3, 0], "queen": [3, 3], "mud": [-1, -2]}
    vectors = wv.WordVectors(list(plane), np.array(list(plane.values()), float))
    assert vectors.analogy("man", "woman", "king", 1)[0][0] == "queen"
    assert {w for w, _ in vectors.analogy("man", "woman", "king")} == {"queen", "mud"}
    assert vectors.score([("man", "woman", "king", "queen")]) == (1, 1, 1, 1)


def test_right_by_the_arrow_and_right_without_it_are_counted_apart():
    """queen is nearest to king itself; lady needs the arrow; mud is found in neither way."""
    plane = {"man": [1, 0], "woman": [1, .2], "king": [3, 0], "queen": [3, .3], "lord": [0, 1],
             "lady": [-.4, 1], "mud": [.1, 1], "rain": [-1, -1], "hail": [-1, -2]}
    vectors = wv.WordVectors(list(plane), np.array(list(plane.values()), float))
    found = [("man", "woman", "king", "queen"), ("man", "woman", "lord", "rain"),
             ("woman", "man", "lord", "mud")]
    rows = [vectors.score([question]) for question in found]
    assert rows[0] == (1, 1, 1, 1) and rows[1][0] == rows[1][3] == 0
    assert vectors.score(found) == tuple(map(sum, zip(*rows)))
    answers = vectors.analogy("man", "woman", "lord")            # five of the six that are left
    assert len(answers) == len(vectors.neighbours("man")) == 5
    assert len(vectors.nearest(vectors["man"])) == 5
    last, = set(plane) - {"man", "woman", "lord"} - {word for word, _ in answers}
    assert vectors.score([("man", "woman", "lord", last)]) == (0, 0, 0, 0)


def test_a_coin_tells_how_much_a_split_says():
    """8 to 3: a coin is as uneven in 2 · (165 + 55 + 11 + 1) of 2048 rows of eleven tosses."""
    assert run.coin(8, 3) == run.coin(3, 8) == 2 * (165 + 55 + 11 + 1) / 2048
    assert run.coin(5, 5) == run.coin(0, 0) == 1.0 and run.coin(6, 0) == 2 / 64


def test_words_are_split_and_ranked():
    assert wv.words("O, what's he?  It is 'tis.") == ["o", "what's", "he", "it", "is", "tis"]
    assert wv.vocabulary(["b", "a", "b", "c", "a", "d"], 3) == ["a", "b", "c"]


def test_the_median_ignores_one_slow_call_and_calls_take_turns():
    order = []
    seconds = seconds_each({k: (lambda k=k: order.append(k)) for k in "ab"}, 3, at_least=0)
    assert order == list("aabb" + "ab" * 3) and set(seconds) == {"a", "b"}
    with pytest.raises(ValueError, match="1 or more, got 0"):
        seconds_each({}, 0)


def test_empty_vectors_and_single_numbers():
    assert v.dot([], []) == 0 and v.norm([]) == 0 and v.cosine([2], [-3]) == -1
    assert wv.cooccurrence([], ["a"], 2).tolist() == [[0]]
    lonely = wv.WordVectors(["a", "b"], np.array([[1.0, 0], [0, 0]]))
    assert lonely.vocab == ["a"]                       # b has no company, so no direction


@pytest.mark.parametrize("wrong, message", [
    (lambda: v.dot([1, 2], [1]), "one length, got 2 and 1"),
    (lambda: v.cosine([0, 0], [1, 2]), "zero vector"),
    (lambda: v.project([1, 2], [0, 0]), "zero vector of length 2"),
    (lambda: v.unit_rows(np.array([[1.0, 2], [0, 0]])), r"row 1 of \(2, 2\) is zero"),
    (lambda: v.cosines(np.ones((2, 3)), np.ones(2)), r"\(2, 3\) and \(2,\)"),
    (lambda: wv.ppmi(np.zeros((2, 2))), r"no pairs were counted in \(2, 2\)"),
    (lambda: wv.svd_vectors(np.ones((2, 2)), 3), r"1 to 2 for a matrix \(2, 2\), got 3"),
    (lambda: wv.WordVectors(["a"], np.ones((2, 2))), r"1 words but vectors of shape \(2, 2\)"),
    (lambda: wv.WordVectors(["a"], np.ones((1, 2)))["b"], "'b' is not among the 1 words"),
])
def test_what_cannot_be_is_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_the_run_compares_every_way_and_finds_neighbours():
    result = run.measure(fast=True, seed=0)
    assert len(result.ways) == 5 and result.rounding < 1e-4
    assert result.neighbours and 0 < result.energy <= 1
    json.dumps(plain(result.__dict__))


@pytest.mark.parametrize("row", [[1e-23, 3e-23], [1e20, 1e20], [3e38, 4e37]])
def test_unit_rows_of_numbers_whose_squares_leave_float32(row):
    x = np.array([row], np.float32)
    exact = np.array(row) / np.hypot(*row)
    np.testing.assert_allclose(v.unit_rows(x)[0], exact, rtol=1e-6)
    assert v.unit_rows(x).dtype == np.float32


def test_unit_rows_of_small_integers_do_not_wrap_around():
    np.testing.assert_allclose(v.unit_rows(np.array([[100, 100]], np.int8)), [[0.5**0.5] * 2])


def test_a_sum_in_order_adds_in_the_type_of_its_vectors():
    ones = np.ones(2**24 + 2, np.float32)
    assert v.dot_in_order(ones, ones) == 2**24      # float32 cannot count further, one by one


def test_the_time_of_a_function_is_the_median(monkeypatch):
    took = iter([0.5, 9.0, 1.0, 2.0])                    # the first call is only to find a batch
    monkeypatch.setattr(timing, "_seconds", lambda function, calls: next(took))
    assert timing.seconds_each({"f": lambda: None}, repeats=3, slow=9)["f"] == 2.0
    took = iter([9.5])                                   # over `slow` seconds: once is enough
    assert timing.seconds_each({"f": lambda: None}, repeats=3, slow=9)["f"] == 9.5
