"""Day 28 · The causal mask: claims about what a token can know."""

import importlib

import numpy as np
import pytest

from llm.functions.attention import attention
from llm.functions.causal import (
    causal_attention,
    causal_attention_rows,
    causal_attention_vjp,
    visible_past,
)
from llm.grad.check import check_pair

Q = np.ones((3, 1))
K = np.log([[1.0], [2], [3]])
VALUES = np.array([[6.0], [12], [18]])


def random_qkv(seed, *shape, dtype=np.float64):
    """Three arrays of one shape (…, T, D)."""
    return np.random.default_rng(seed).standard_normal((3, *shape)).astype(dtype)


def test_the_hand_example_forward():
    out, (*_, weights) = causal_attention(Q, K, VALUES)
    expected = np.array([[1, 0, 0], [1 / 3, 2 / 3, 0], [1 / 6, 2 / 6, 3 / 6]])
    assert weights == pytest.approx(expected, rel=1e-14)
    assert out == pytest.approx(np.array([[6.0], [10], [14]]), rel=1e-14)
    assert causal_attention_rows(Q, K, VALUES) == pytest.approx(out, rel=1e-14)


def test_the_hand_example_backward():
    saved = causal_attention(Q, K, VALUES)[1]
    dq, dk, dv = causal_attention_vjp(np.array([[0.0], [1], [0]]), *saved)
    assert dv == pytest.approx(np.array([[1 / 3], [2 / 3], [0]]), rel=1e-14)
    assert dk == pytest.approx(np.array([[-4 / 3], [4 / 3], [0]]), rel=1e-13)
    assert dk[2] == 0 and dv[2] == 0
    assert dq == pytest.approx(np.array([[0], [4 / 3 * np.log(2)], [0]]), rel=1e-13)


def test_the_mask_is_the_lower_triangle_with_its_diagonal():
    assert visible_past(3).tolist() == [[True, False, False], [True, True, False],
                                        [True, True, True]]
    assert visible_past(50).dtype == bool and visible_past(50).sum() == 50 * 51 // 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_zero_is_one_and_zeros(dtype):
    q, k, v = random_qkv(0, 2, 6, 4, dtype=dtype)
    out, (*_, weights) = causal_attention(q, k, v)
    assert np.array_equal(weights[:, 0], [[1, 0, 0, 0, 0, 0]] * 2)
    assert np.array_equal(out[:, 0], v[:, 0])
    assert not weights[:, ~visible_past(6)].any()
    assert weights.sum(axis=-1) == pytest.approx(np.ones((2, 6)), rel=1e-6)


@pytest.mark.parametrize("t", [1, 7, 32])
@pytest.mark.parametrize("way", [lambda *x: causal_attention(*x)[0], causal_attention_rows,
                                 lambda *x: causal_attention_rows(*x, block=5)])
def test_changing_token_t_leaves_earlier_outputs_bit_identical(t, way):
    q, k, v = random_qkv(1, 2, 33, 8, dtype=np.float32)
    before = way(q, k, v)
    for array in (q, k, v):
        array[:, t:] = 100 * np.random.default_rng(2).standard_normal(array[:, t:].shape)
    after = way(q, k, v)
    assert after[:, :t].tobytes() == before[:, :t].tobytes()
    assert (after[:, t] != before[:, t]).any()


@pytest.mark.parametrize("t", [0, 3, 6])
def test_a_loss_at_token_t_sends_exactly_nothing_to_later_tokens(t):
    q, k, v = random_qkv(3, 7, 4)
    dout = np.zeros((7, 4))
    dout[t] = np.random.default_rng(4).standard_normal(4)
    for gradient in causal_attention_vjp(dout, *causal_attention(q, k, v)[1]):
        assert not gradient[t + 1:].any()


def test_each_row_is_attention_over_the_text_cut_off_there():
    q, k, v = random_qkv(5, 2, 3, 9, 4)
    out = causal_attention(q, k, v)[0]
    for t in range(9):
        cut = (slice(None), slice(None), slice(0, t + 1))
        alone = attention(q[cut], k[cut], v[cut])[0][..., -1, :]
        assert out[..., t, :] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("block", [1, 2, 5, 12, 50])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_never_visiting_the_future_gives_the_same_as_hiding_it(block, dtype, tolerance):
    q, k, v = random_qkv(6, 2, 12, 4, dtype=dtype)
    found = causal_attention_rows(q, k, v, block)
    assert found.dtype == dtype
    assert found == pytest.approx(causal_attention(q, k, v)[0], rel=tolerance, abs=tolerance)


def test_a_future_that_overflowed_reaches_the_past_only_where_it_is_visited():
    q, k, v = random_qkv(7, 6, 4)
    expected = causal_attention(q, k, v)[0][:3]
    v[3:] = np.inf
    assert causal_attention_rows(q, k, v)[:3] == pytest.approx(expected, rel=1e-12)
    with np.errstate(invalid="ignore"):
        assert np.isnan(causal_attention(q, k, v)[0][:3]).all()     # 0 · ∞: a known limit


def test_the_backward_equals_finite_differences():
    rng = np.random.default_rng(8)
    check_pair(causal_attention, causal_attention_vjp, *random_qkv(9, 2, 5, 3), rng=rng)
    check_pair(causal_attention, causal_attention_vjp, *random_qkv(9, 2, 5, 3), rng=rng,
               bias=rng.standard_normal((5, 5)))


def test_values_may_have_another_size():
    q, k, _ = random_qkv(10, 6, 4)
    v = np.arange(12.0).reshape(6, 2)
    assert causal_attention(q, k, v)[0].shape == (6, 2)
    assert causal_attention_rows(q, k, v, 4) == pytest.approx(causal_attention(q, k, v)[0])


def test_a_bias_on_hidden_places_changes_nothing():
    q, k, v = random_qkv(11, 6, 4)
    bias = np.where(visible_past(6), 0.0, 1e30)
    assert np.array_equal(causal_attention(q, k, v, bias)[0], causal_attention(q, k, v)[0])


def test_a_bias_on_visible_places_is_added_to_the_scores():
    q, k, v = random_qkv(15, 2, 5, 3)
    bias = np.random.default_rng(16).standard_normal((5, 5))
    out = causal_attention(q, k, v, bias)[0]
    for b, t in np.ndindex(2, 5):
        scores = [q[b, t] @ k[b, s] / 3**0.5 + bias[t, s] for s in range(t + 1)]
        weights = np.exp(scores) / np.exp(scores).sum()
        assert out[b, t] == pytest.approx(weights @ v[b, :t + 1], rel=1e-12)


def test_equal_keys_give_the_running_mean():
    _, k, v = random_qkv(17, 6, 4)
    out = causal_attention(k, np.zeros_like(k), v)[0]
    assert out == pytest.approx(np.cumsum(v, axis=0) / np.arange(1, 7)[:, None], rel=1e-12)


def test_dividing_again_breaks_in_float32_where_the_future_scores_104_more():
    scores = np.array([0.0, 110.0], np.float32)
    weights = np.exp(scores - scores.max())
    weights = weights / weights.sum() * np.array([1, 0], np.float32)
    assert weights.sum() == 0                                       # 0/0 if it is divided again


def test_a_large_negative_number_in_place_of_minus_infinity_averages_what_was_hidden():
    scores = np.float32(-1e9) + np.array([0.3, -2.0, 7.0], np.float32)
    assert (scores == np.float32(-1e9)).all()


def test_zeroing_after_the_softmax_lets_the_future_change_the_past():
    weights = attention(Q, K, VALUES)[1][3] * visible_past(3)
    assert weights.sum(axis=1) == pytest.approx([1 / 6, 1 / 2, 1])
    other = attention(Q, np.log([[1.0], [2], [7]]), VALUES)[1][3] * visible_past(3)
    assert other.sum(axis=1) == pytest.approx([1 / 10, 3 / 10, 1])
    again = weights / weights.sum(axis=1, keepdims=True)            # divided again, it is right
    assert again == pytest.approx(causal_attention(Q, K, VALUES)[1][3])


@pytest.mark.parametrize("way", [lambda *x: causal_attention(*x)[0], causal_attention_rows])
def test_one_token_attends_to_itself(way):
    q, k, v = random_qkv(12, 3, 1, 4)
    assert np.array_equal(way(q, k, v), v)


@pytest.mark.parametrize("block", [0, -1])
def test_a_block_without_queries_is_refused(block):
    with pytest.raises(ValueError, match=f"1 query or more, not {block}"):
        causal_attention_rows(Q, K, VALUES, block)


@pytest.mark.parametrize("way", [causal_attention, causal_attention_rows])
def test_misaligned_shapes_are_named(way):
    x = np.ones((5, 4))
    with pytest.raises(ValueError, match=r"as many queries as keys, got q \(3, 4\) and k \(5, 4\)"):
        way(x[:3], x, x)
    with pytest.raises(ValueError, match=r"q \(0, 4\), k \(0, 4\), v \(0, 4\).*Tk ≥ 1"):
        way(x[:0], x[:0], x[:0])
    with pytest.raises(ValueError, match=r"q \(5, 4\), k \(5, 3\), v \(5, 4\)"):
        way(x, x[:, :3], x)
    with pytest.raises(ValueError, match=r"q \(4,\), k \(4,\), v \(4,\)"):
        way(x[0], x[0], x[0])


def test_a_leaking_mask_reports_a_loss_that_no_honest_model_has():
    result = importlib.import_module("days.day28.run").measure(fast=True, seed=0)
    causal, shifted, unmasked, _ = result.nats
    assert causal == pytest.approx(result.honest, rel=1e-3)
    assert max(shifted, unmasked) < 0.5 * causal
    assert result.told[0] == 0 and result.told[1] == 1 and min(result.told[2:]) > 1
    assert result.spelled == 1.0 and result.told[3] == result.shared
    zeroed = result.nats[3]                                         # the nats of the lost weight
    assert zeroed - causal == pytest.approx(result.missing, rel=1e-3) and result.missing > 0.3
