"""Day 27 · Scaled dot-product attention: claims about the weights, the backward and a look-up."""

import importlib
import math

import numpy as np
import pytest

from llm.functions.attention import attention, attention_vjp
from llm.functions.probability import softmax
from llm.grad.check import check_pair
from llm.models.lookup import Lookup, windows

LN3 = math.log(3)


def random_qkv(rng, lead, Tq, Tk, D, Dv):
    """q, k, v of the given sizes, float64."""
    return (rng.standard_normal((*lead, Tq, D)), rng.standard_normal((*lead, Tk, D)),
            rng.standard_normal((*lead, Tk, Dv)))


def by_loops(q, k, v):
    """Attention of two-dimensional arrays, one number at a time."""
    out = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        e = [math.exp(sum(a * b for a, b in zip(q[i], key)) / math.sqrt(q.shape[1])) for key in k]
        for c in range(v.shape[1]):
            out[i, c] = sum(w / sum(e) * v[j, c] for j, w in enumerate(e))
    return out


def test_the_hand_example_forward():
    q = np.array([[1.0, 1, 1, 1], [1, -1, 1, -1]])
    k = np.array([[LN3 / 2] * 4, [0.0] * 4])
    v = np.array([[8.0, 0], [0, 4]])
    out, (*_, weights) = attention(q, k, v)
    assert weights == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]), rel=1e-14)
    assert out == pytest.approx(np.array([[6.0, 1], [4, 2]]), rel=1e-14)


def test_the_hand_example_backward():
    q = np.array([[1.0, 1, 1, 1], [1, -1, 1, -1]])
    k = np.array([[LN3 / 2] * 4, [0.0] * 4])
    v = np.array([[8.0, 0], [0, 4]])
    dq, dk, dv = attention_vjp(np.array([[1.0, 0], [0, 0]]), *attention(q, k, v)[1])
    assert dv == pytest.approx(np.array([[0.75, 0], [0.25, 0]]), rel=1e-14)
    assert dk == pytest.approx(np.array([[0.75] * 4, [-0.75] * 4]), rel=1e-13)
    assert dq == pytest.approx(np.array([[0.75 * LN3 / 2] * 4, [0.0] * 4]), rel=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_rows_sum_to_one_and_outputs_stay_between_the_values(seed):
    rng = np.random.default_rng(seed)
    Tq, Tk, D, Dv = rng.integers(1, 9, 4)
    q, k, v = random_qkv(rng, (2, 3), Tq, Tk, D, Dv)
    out, (*_, weights) = attention(3 * q, k, v)
    assert out.shape == (2, 3, Tq, Dv) and weights.shape == (2, 3, Tq, Tk)
    assert weights.min() >= 0
    assert weights.sum(axis=-1) == pytest.approx(np.ones((2, 3, Tq)))
    assert (out <= v.max(axis=-2, keepdims=True) + 1e-12).all()
    assert (out >= v.min(axis=-2, keepdims=True) - 1e-12).all()


def test_identical_keys_average_the_visible_values():
    rng = np.random.default_rng(0)
    q, _, v = random_qkv(rng, (), 3, 5, 4, 2)
    k = np.tile(rng.standard_normal(4), (5, 1))
    assert attention(q, k, v)[0] == pytest.approx(np.tile(v.mean(axis=0), (3, 1)))
    visible = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]], dtype=bool)
    averages = np.stack([v[row].mean(axis=0) for row in visible])
    assert attention(q, k, v, visible)[0] == pytest.approx(averages)


def test_the_order_of_the_pairs_does_not_matter():
    rng = np.random.default_rng(1)
    q, k, v = random_qkv(rng, (), 4, 6, 3, 2)
    order = rng.permutation(6)
    assert attention(q, k[order], v[order])[0] == pytest.approx(attention(q, k, v)[0])


def test_the_same_vector_added_to_every_key_changes_nothing():
    q, k, v = random_qkv(np.random.default_rng(2), (), 4, 6, 3, 2)
    assert attention(q, k + [5.0, -2, 1], v)[0] == pytest.approx(attention(q, k, v)[0])


def test_a_sharp_query_looks_up_like_a_dictionary():
    k, v = np.eye(5), np.arange(10.0).reshape(5, 2)
    assert np.array_equal(attention(1e4 * np.eye(5)[[3, 0]], k, v)[0], v[[3, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_loops_over_single_numbers(seed):
    q, k, v = random_qkv(np.random.default_rng(seed), (), 3, 4, 5, 2)
    assert attention(q, k, v)[0] == pytest.approx(by_loops(q, k, v), rel=1e-12)


def test_it_is_gaussian_kernel_regression_on_keys_of_one_length():
    rng = np.random.default_rng(3)
    q, k, v = random_qkv(rng, (), 3, 7, 4, 2)
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    near = np.exp(-((q[:, None] - k) ** 2).sum(axis=-1) / (2 * math.sqrt(4)))
    assert attention(q, k, v)[0] == pytest.approx(near @ v / near.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("D", [4, 64, 1024])
def test_scores_of_unit_entries_spread_by_root_d_and_scaled_by_one(D):
    rng = np.random.default_rng(4)
    q, k = rng.choice([-1.0, 1.0], (300, D)), rng.uniform(-(3**0.5), 3**0.5, (300, D))
    assert (q @ k.T).std() == pytest.approx(math.sqrt(D), rel=0.05)
    weights = attention(q, k, k)[1][3]
    log_ratios = np.log(weights[:, 1:]) - np.log(weights[:, :1])  # differences of scaled scores
    assert log_ratios.std() == pytest.approx(math.sqrt(2), rel=0.1)


@pytest.mark.parametrize("lead, Tq, Tk, D, Dv", [
    ((), 1, 1, 1, 1), ((), 3, 4, 2, 5), ((2,), 4, 3, 3, 2), ((2, 2), 2, 3, 4, 1)])
def test_the_backward_equals_finite_differences(lead, Tq, Tk, D, Dv):
    rng = np.random.default_rng(5)
    check_pair(attention, attention_vjp, *random_qkv(rng, lead, Tq, Tk, D, Dv), rng=rng)


def test_the_backward_equals_finite_differences_with_mask_and_bias():
    rng = np.random.default_rng(6)
    visible = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    check_pair(attention, attention_vjp, *random_qkv(rng, (2,), 3, 4, 3, 2), rng=rng,
               visible=visible, bias=rng.standard_normal((3, 4)))


def test_a_hidden_key_gets_a_gradient_of_exactly_zero():
    rng = np.random.default_rng(7)
    q, k, v = random_qkv(rng, (), 3, 4, 3, 2)
    visible = np.ones((3, 4), bool)
    visible[:, 2] = False
    _, dk, dv = attention_vjp(rng.standard_normal((3, 2)), *attention(q, k, v, visible)[1])
    assert not dk[2].any() and not dv[2].any()
    assert dk[1].any() and dv[1].any()


def test_gradients_of_the_scores_and_so_of_the_keys_sum_to_zero_per_query():
    rng = np.random.default_rng(8)
    q, k, v = random_qkv(rng, (), 1, 6, 3, 2)   # one query: Σ over keys of dk = (Σ ds) q
    _, dk, _ = attention_vjp(rng.standard_normal((1, 2)), *attention(q, k, v)[1])
    assert dk.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-14)


def test_a_bias_is_added_to_the_scores():
    q, k, v = random_qkv(np.random.default_rng(9), (2,), 3, 4, 3, 2)
    bias = np.random.default_rng(10).standard_normal((3, 4))
    expected = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(3) + bias) @ v
    assert attention(q, k, v, bias=bias)[0] == pytest.approx(expected, rel=1e-13)


def test_huge_scores_do_not_overflow():
    q, k, v = (x.astype(np.float32) for x in random_qkv(np.random.default_rng(11), (), 3, 4, 3, 2))
    out, saved = attention(1e4 * q, 1e4 * k, v)
    assert out.dtype == np.float32 and np.isfinite(out).all()
    assert all(np.isfinite(g).all() for g in attention_vjp(out, *saved))


def test_one_key_is_its_value_and_has_no_say():
    q, k, v = random_qkv(np.random.default_rng(12), (), 3, 1, 4, 2)
    out, saved = attention(q, k, v)
    assert np.array_equal(out, np.tile(v, (3, 1)))
    dq, dk, dv = attention_vjp(np.ones((3, 2)), *saved)
    assert not dq.any() and not dk.any() and np.array_equal(dv, [[3.0, 3.0]])


def test_no_query_gives_no_output():
    out, saved = attention(np.zeros((0, 4)), np.ones((3, 4)), np.ones((3, 2)))
    assert out.shape == (0, 2)
    assert [g.shape for g in attention_vjp(out, *saved)] == [(0, 4), (3, 4), (3, 2)]


@pytest.mark.parametrize("shapes", [
    ((3, 4), (5, 3), (5, 2)), ((3, 4), (5, 4), (6, 2)), ((2, 3, 4), (5, 4), (5, 2)),
    ((4,), (5, 4), (5, 2)), ((3, 4), (0, 4), (0, 2)), ((3, 0), (5, 0), (5, 2))])
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(ValueError, match=r"attention of q \(.*\), k \(.*\), v \(.*\): wanted"):
        attention(*(np.ones(shape) for shape in shapes))


def test_masks_and_biases_that_do_not_fit_are_named():
    q, k, v = random_qkv(np.random.default_rng(13), (), 3, 4, 2, 2)
    with pytest.raises(ValueError, match=r"visible \(4, 3\) does not broadcast.*\(3, 4\)"):
        attention(q, k, v, np.ones((4, 3), bool))
    with pytest.raises(ValueError, match=r"bias \(2, 3, 4\) does not broadcast.*\(3, 4\)"):
        attention(q, k, v, bias=np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="booleans, not float64"):
        attention(q, k, v, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="a query sees no key"):
        attention(q, k, v, np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="a query sees no key"):
        attention(q, k, v, np.arange(3)[:, None] != np.full(4, 1))
    out = attention(q, k, v, np.full((3, 1), True) & (np.arange(4) != 2))[0]
    rest = np.array([0, 1, 3])                           # a key that nobody sees is no error
    assert out == pytest.approx(attention(q, k[rest], v[rest])[0])


def test_a_window_scores_root_v_over_width_for_each_character_that_agrees():
    ids = np.array([0, 1, 2, 3, 0, 1, 4, 3, 0])
    rows = windows(ids, np.array([4, 8, 9]), 4, 5)          # 0123, 0143, 1430: the last is nearest
    assert (rows**2).mean() == pytest.approx(1)
    scores = rows @ rows.T / math.sqrt(rows.shape[1])
    agree = np.array([[4, 3, 0], [3, 4, 0], [0, 0, 4]])
    assert scores == pytest.approx(agree * math.sqrt(5 / 4), rel=1e-6)
    near = windows(ids, np.array([4, 8]), 4, 5, decay=0.5)  # all but the second character back
    assert near[0] @ near[1] / (near[0] @ near[0]) == pytest.approx(1 - 4 / 15)


def test_a_place_without_enough_before_it_is_an_error():
    with pytest.raises(ValueError, match=r"places 2 … 5 in ids \(6,\) need 3"):
        windows(np.zeros(6, int), [2, 5], 3, 4)


def test_a_look_up_averages_what_followed_weighted_by_agreement():
    ids = np.array([0, 1, 2, 0, 1, 1, 0, 2])
    memory = Lookup(ids, 2, 3)
    p, weights = memory.predict(np.array([0, 1]), [2])       # what follows 0 1?
    expected = np.ones(3)                                    # the blanks score 0
    for end in range(2, 8):
        expected[ids[end]] += math.exp(math.sqrt(3 / 2) * sum(ids[end - 2:end] == [0, 1]))
    assert p[0] == pytest.approx(expected / expected.sum(), rel=1e-5)
    assert weights.shape == (1, 3 + 6)
    flat, _ = memory.predict(np.array([0, 1]), [2], sharpness=0)
    assert flat[0] == pytest.approx((1 + np.bincount(ids[2:])) / 9, rel=1e-5)
    sharp, _ = memory.predict(np.array([0, 1]), [2], sharpness=50)
    assert sharp[0] == pytest.approx([0, 0.5, 0.5], abs=1e-6)   # 0 1 was seen twice: 2, then 1


def test_scaled_scores_read_and_bare_ones_are_worse_than_a_uniform_guess():
    result = importlib.import_module("days.day27.run").measure(fast=True, seed=0)
    largest = [losses[-1] for losses in result.nats]
    assert min(largest) < result.counted[0][-1] - 0.3        # far better than no context
    assert largest[-1] > math.log(result.vocab_size)
    assert result.spread[-1][5] < 0.2 < 0.9 < result.spread[-1][6]


def test_one_hot_keys_spread_as_the_frequencies_of_the_characters_say():
    """σ = √(Vπ(1 − π)) with π = Σp²: for p = (.7, .1, .1, .1), π = .52 and σ² = 4·.52·.48."""
    run = importlib.import_module("days.day27.run")
    source = np.random.default_rng(0)
    ids = source.choice(4, 40_000, p=[0.7, 0.1, 0.1, 0.1])
    mean, spread, predicted, alike = run.real_scores(source, ids, 4)
    assert predicted == pytest.approx(math.sqrt(4 * 0.52 * 0.48), rel=0.02)
    assert spread == pytest.approx(predicted, rel=0.05)
    assert mean == pytest.approx(4 * 0.52, rel=0.05)         # four places, √(4/4) for each
    assert alike == pytest.approx(math.sqrt(1 - 1 / 4), rel=0.05)


def test_the_scale_is_chosen_on_other_places_than_it_is_reported_on():
    run = importlib.import_module("days.day27.run")
    result = run.measure(fast=True, seed=1)
    assert all(beta in result.sharpness for beta in result.chosen + result.best)
    assert result.recent[0] in run.DECAYS and np.shape(result.errors) == np.shape(result.nats)
    mean, error = result.ahead[1]                            # the same queries, pair by pair
    at = result.sharpness.index(result.chosen[-1])
    assert mean == pytest.approx(result.counted[1][-1] - result.nats[at][-1])
    assert 0 < error < 0.5


def test_a_bias_in_float64_leaves_float32_as_it_is():
    draw = np.random.default_rng(0)
    q, k, v = (draw.standard_normal((2, 3, 4)).astype(np.float32) for _ in range(3))
    out, saved = attention(q, k, v, bias=draw.standard_normal((3, 3)))
    assert out.dtype == np.float32 and {a.dtype.name for a in saved} == {"float32"}
