"""Day 29 · Many heads: the hand example, a float64 loop over heads, gradients, and the module."""

import math

import numpy as np
import pytest

from days.day29.model import AttentionLM, Places
from days.day29.opened import Opened, habits, looks_back
from days.day29.run import counted_pairs, measure, table
from llm.functions.causal import causal_attention
from llm.functions.heads import (
    NO_RULE,
    PositionRule,
    merge_heads,
    multi_head,
    multi_head_both_ways,
    multi_head_dropped,
    multi_head_dropped_vjp,
    multi_head_vjp,
    split_heads,
)
from llm.grad import ops
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention


class Reversed(PositionRule):
    """A rule to test with: doubles and reverses channels, and prefers keys that are near."""

    def turn(self, x):
        return 2 * x[..., ::-1]

    def turn_vjp(self, dx):
        return 2 * dx[..., ::-1]

    def bias(self, T):
        return np.arange(T)[None, None, :] * np.array([0.5, 1.0])[:, None, None]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_loops(qkv, H, rule=NO_RULE):
    """Each batch, head and query by itself, in float64, from the definition."""
    B, T, width = qkv.shape
    C, D = width // 3, width // 3 // H
    out = np.zeros((B, T, C))
    for b in range(B):
        for h in range(H):
            q, k, v = (qkv[b, :, j * C + h * D:j * C + (h + 1) * D].astype(np.float64)
                       for j in range(3))
            q, k = (rule.turn(x[None, None])[0, 0] for x in (q, k))
            for t in range(T):
                scores = [sum(q[t] * k[s]) / math.sqrt(D) for s in range(t + 1)]
                if rule.bias(T) is not None:
                    scores += rule.bias(T)[h if len(rule.bias(T)) > 1 else 0, t % rule.bias(
                        T).shape[1], :t + 1]
                weights = np.exp(scores - np.max(scores))
                out[b, t, h * D:(h + 1) * D] = weights @ v[:t + 1] / weights.sum()
    return out


LN3 = math.log(3)
QKV = np.array([[[0, 0, 0, LN3, 2, 8],      # two heads of one channel: q₁ q₂ | k₁ k₂ | v₁ v₂
                 [0, 1, 0, 0, 4, 0]]])


def test_the_example_by_hand():
    out, _ = multi_head(QKV, H=2)           # head 1 averages, head 2 weighs 3 : 1
    assert out == pytest.approx(np.array([[[2, 8], [3, 6]]]))
    assert out[0, 1] @ np.array([[1, 1], [0, 2]]) == pytest.approx([3, 3 + 12])


def test_the_way_back_of_the_example_by_hand():
    _, saved = multi_head(QKV, H=2)
    (dqkv,) = multi_head_vjp(np.array([[[0.0, 0], [1, 1]]]), *saved)
    assert dqkv == pytest.approx(np.array([[[0, 0, 0, 1.5, 0.5, 0.75],
                                            [0, 1.5 * LN3, 0, -1.5, 0.5, 0.25]]]))


def test_one_head_cannot_leave_the_line_between_the_values(rng):
    (x, y), (a, b) = QKV[0, :, 4:]                          # (2, 8) and (4, 0)
    for _ in range(20):
        qkv = np.concatenate([3 * rng.standard_normal((1, 2, 4)), QKV[..., 4:]], axis=-1)
        c, d = multi_head(qkv, H=1)[0][0, 1]
        assert (a - x) * (d - y) == pytest.approx((b - y) * (c - x))
    assert (a - x) * (6 - y) != (b - y) * (3 - x)           # two heads have made (3, 6)


@pytest.mark.parametrize("H", [1, 2, 3, 6])
def test_what_tokens_send_each_other_spans_one_matrix_a_head(rng, H):
    T, C = 4, 6
    qk, w_v, w_o = rng.standard_normal((T, 2 * C)), *rng.standard_normal((2, C, C))
    sent = np.zeros((T, T, C, C))                           # from s to t: x_s times this matrix
    for s, c in np.ndindex(T, C):
        x = np.zeros((T, C))
        x[s, c] = 1
        sent[:, s, c] = multi_head(np.concatenate([qk, x @ w_v], -1)[None], H)[0][0] @ w_o
    assert np.linalg.matrix_rank(sent.reshape(T * T, C * C)) == H


def test_splitting_is_a_view_and_merging_undoes_it(rng):
    x = rng.standard_normal((2, 5, 12))
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4) and np.shares_memory(heads, x)
    assert (heads[1, 2, 3] == x[1, 3, 8:12]).all()          # head 2 is channels 8 … 11
    assert (merge_heads(heads) == x).all()


@pytest.mark.parametrize("B, T, H, D", [(1, 1, 1, 1), (2, 5, 3, 4), (3, 7, 2, 1), (1, 16, 8, 2)])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_it_equals_a_loop_over_heads(rng, B, T, H, D, dtype, tolerance):
    qkv = rng.standard_normal((B, T, 3 * H * D)).astype(dtype)
    out, _ = multi_head(qkv, H)
    assert out.dtype == dtype
    assert out == pytest.approx(by_loops(qkv, H), abs=tolerance)


def test_a_position_rule_turns_queries_and_keys_and_biases_scores(rng):
    qkv = rng.standard_normal((2, 6, 3 * 2 * 3))
    assert multi_head(qkv, 2, Reversed())[0] == pytest.approx(by_loops(qkv, 2, Reversed()))


def test_one_head_is_plain_causal_attention(rng):
    q, k, v = rng.standard_normal((3, 2, 5, 4))
    out, _ = multi_head(np.concatenate([q, k, v], axis=-1), H=1)
    assert out == pytest.approx(causal_attention(q, k, v)[0])


def test_a_head_sees_only_its_own_channels(rng):
    qkv = rng.standard_normal((1, 6, 3 * 12))
    before = multi_head(qkv, H=3)[0]
    for part in range(3):
        qkv[..., 12 * part:12 * part + 4] += 1 + part       # q, k, v of head 0
    after = multi_head(qkv, H=3)[0]
    assert (after[..., 4:] == before[..., 4:]).all()
    assert (after[..., :4] != before[..., :4]).any()


def test_the_future_changes_nothing(rng):
    qkv = rng.standard_normal((2, 7, 3 * 8)).astype(np.float32)
    before = multi_head(qkv, H=2)[0]
    qkv[:, 4:] += 10
    assert (multi_head(qkv, H=2)[0][:, :4] == before[:, :4]).all()


def test_without_a_rule_the_last_output_does_not_know_the_order_of_the_past(rng):
    qkv = rng.standard_normal((1, 6, 3 * 8))
    mixed = qkv[:, [3, 0, 4, 2, 1, 5]]
    assert multi_head(mixed, H=2)[0][:, -1] == pytest.approx(multi_head(qkv, H=2)[0][:, -1])


@pytest.mark.parametrize("rule", [NO_RULE, Reversed()])
def test_the_backward_is_the_gradient(rng, rule):
    check_pair(multi_head, multi_head_vjp, rng.standard_normal((2, 4, 3 * 2 * 3)), rng=rng, H=2,
               rule=rule)


def test_saved_is_flat_so_that_its_bytes_can_be_counted(rng):
    _, saved = multi_head(rng.standard_normal((2, 5, 24)), H=2)
    assert not any(isinstance(item, tuple) for item in saved)


@pytest.mark.parametrize("H", [1, 2, 8])
def test_parameters_do_not_depend_on_the_number_of_heads(rng, H):
    module = MultiHeadAttention(16, H, rng)
    assert module.count_parameters() == 4 * 16**2 + 4 * 16
    assert list(module.named_parameters()) == ["qkv.w", "qkv.b", "project.w", "project.b"]


def test_the_module_projects_attends_and_projects(rng):
    module = MultiHeadAttention(6, 2, rng, rule=Reversed())
    for p in module.named_parameters().values():
        p.data = rng.standard_normal(p.shape)
    x = Tensor(rng.standard_normal((2, 4, 6)), requires_grad=True)
    qkv = x.data @ module.qkv.w.data + module.qkv.b.data
    expected = by_loops(qkv, 2, Reversed()) @ module.project.w.data + module.project.b.data
    out = module(x)
    assert out.data == pytest.approx(expected)
    out.sum().backward()
    for p in (x, module.qkv.w, module.qkv.b, module.project.w):
        numeric = numerical_gradient(lambda _: module(x).data.sum(), p.data)
        assert p.grad == pytest.approx(numeric, rel=1e-6, abs=1e-7)


def test_the_start_scales_can_be_given(rng):
    module = MultiHeadAttention(64, 2, rng, std=0.02, out_std=0.005)
    assert module.qkv.w.data.std() == pytest.approx(0.02, rel=0.05)
    assert module.project.w.data.std() == pytest.approx(0.005, rel=0.05)


@pytest.mark.parametrize("rule", [NO_RULE, Reversed()])
def test_without_the_mask_each_token_sees_all(rng, rule):
    qkv = rng.standard_normal((2, 4, 12))
    out, saved = multi_head_both_ways(qkv, 2, rule)
    for b in range(2):
        for h in range(2):
            q, k, v = (qkv[b:b + 1, :, 4 * i + 2 * h:4 * i + 2 * h + 2] for i in range(3))
            q, k = rule.turn(q[:, None])[0, 0], rule.turn(k[:, None])[0, 0]
            bias = rule.bias(4)
            bias = 0 if bias is None else np.broadcast_to(bias, (2, 4, 4))[h]
            weights = np.exp(q @ k.T / 2**0.5 + bias)
            expected = weights / weights.sum(axis=1, keepdims=True) @ v[0]
            assert out[b, :, 2 * h:2 * h + 2] == pytest.approx(expected)
    check_pair(multi_head_both_ways, multi_head_vjp, qkv, rng=rng, H=2, rule=rule)
    assert out[:, -1] == pytest.approx(multi_head(qkv, 2, rule)[0][:, -1])      # it sees all anyway


def test_toggles_of_the_module_and_its_dtype(rng):
    module = MultiHeadAttention(6, 2, rng, bias=False, causal=False, dtype=np.float64)
    assert list(module.named_parameters()) == ["qkv.w", "project.w"]
    assert {p.dtype.name for p in module.named_parameters().values()} == {"float64"}
    x = rng.standard_normal((1, 5, 6))
    order = rng.permutation(5)
    assert module(Tensor(x[:, order])).data == pytest.approx(module(Tensor(x)).data[:, order])
    with pytest.raises(ValueError, match=r"linear of float32 \(1, 5, 6\) and float64 \(6, 18\)"):
        module(Tensor(x.astype(np.float32), True))
    with pytest.raises(ValueError, match="3 heads: wanted"):
        multi_head_both_ways(rng.standard_normal((1, 5, 24)), 3)
    for bad in ((np.zeros((5, 6)), 2), (np.zeros((1, 5, 6)), 0)):
        with pytest.raises(ValueError, match="wanted"):
            multi_head_both_ways(*bad)
    usual = MultiHeadAttention(6, 2, rng)
    assert usual.causal and usual.qkv.b is not None and usual.qkv.w.dtype == np.float32


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rule", [NO_RULE, Reversed()])
def test_dropped_weights_are_gone_and_the_others_grow(rng, rule, causal):
    qkv, kept = rng.standard_normal((2, 4, 12)), rng.random((2, 2, 4, 4)) >= 0.4
    out, saved = multi_head_dropped(qkv, kept, 2, rule, rate=0.4, causal=causal)
    v, weights = saved[2:4]
    for b, h, t in np.ndindex(2, 2, 4):                         # one by one, from the definition
        by_hand = sum(weights[b, h, t, s] / 0.6 * v[b, h, s] for s in range(4) if kept[b, h, t, s])
        assert out[b, t, 2 * h:2 * h + 2] == pytest.approx(by_hand + np.zeros(2))
    check_pair(multi_head_dropped, multi_head_dropped_vjp, qkv, kept, rng=rng, H=2, rule=rule,
               rate=0.4, causal=causal)
    plain = (multi_head if causal else multi_head_both_ways)(qkv, 2, rule)[0]
    assert multi_head_dropped(qkv, np.ones_like(kept), 2, rule, 0.0, causal)[0] == pytest.approx(
        plain)
    out, saved = multi_head_dropped(qkv.astype(np.float32), kept, 2, rule, 0.4, causal)
    assert out.dtype == np.float32 == multi_head_dropped_vjp(out, *saved)[0].dtype
    with pytest.raises(ValueError, match=r"kept of shape \(2, 4, 4\) for weights of shape "):
        multi_head_dropped(qkv, kept[0], 2)


def test_the_module_drops_weights_only_where_a_call_brings_an_rng(rng):
    module = MultiHeadAttention(6, 2, np.random.default_rng(1), dropout=0.25)
    plain = MultiHeadAttention(6, 2, np.random.default_rng(1))
    x = Tensor(rng.standard_normal((1, 5, 6)).astype(np.float32))
    assert np.array_equal(module(x).data, plain(x).data) and module.draws and not plain.draws
    assert np.array_equal(plain(x, np.random.default_rng(0)).data, plain(x).data)
    draws = [module(x, rng).data for _ in range(3000)]
    assert not np.array_equal(draws[0], draws[1])
    assert np.mean(draws, axis=0) == pytest.approx(plain(x).data, abs=0.05)
    kept = np.random.default_rng(7).random((1, 2, 5, 5), dtype=np.float32) >= 0.25
    expected = module.project(Tensor(multi_head_dropped(module.qkv(x).data, kept, 2,
                                                        rate=0.25)[0])).data
    assert module(x, np.random.default_rng(7)).data == pytest.approx(expected)
    both = MultiHeadAttention(6, 2, np.random.default_rng(1), dropout=0.25, causal=False)
    assert (both(x, np.random.default_rng(7)).data != expected).any()
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"rate lies in \[0, 1\)"):
            MultiHeadAttention(6, 2, rng, dropout=rate)


def test_heads_that_do_not_divide_are_refused(rng):
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        MultiHeadAttention(8, 3, rng)
    with pytest.raises(ValueError, match="0 heads"):
        MultiHeadAttention(8, 0, rng)
    for shape in [(2, 5, 8), (2, 5, 9), (2, 6, 15), (5, 12)]:
        for way in (multi_head, multi_head_both_ways):
            with pytest.raises(ValueError, match=rf"{shape[-1]}\) with 2 heads: wanted \(B, T, 3"):
                way(np.zeros(shape), H=2)


def test_the_layer_is_a_sum_over_heads_of_matrices_of_rank_d(rng):
    C, H, D = 6, 3, 2
    module = MultiHeadAttention(C, H, rng, dtype=np.float64)
    x = rng.standard_normal((1, 5, C))
    qkv = module.qkv.w.data.astype(np.float64).reshape(C, 3, H, D)
    total = 0
    for h in range(H):
        look = qkv[:, 0, h] @ qkv[:, 1, h].T                            # (C, C), rank D
        write = qkv[:, 2, h] @ module.project.w.data[h * D:(h + 1) * D]  # (C, C), rank D
        assert np.linalg.matrix_rank(look) == np.linalg.matrix_rank(write) == D
        scores = np.where(np.tri(5), x[0] @ look @ x[0].T / math.sqrt(D), -np.inf)
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        total += weights @ x[0] @ write
    assert module(Tensor(x)).data[0] == pytest.approx(total, abs=1e-5)      # biases start at 0


def test_an_opened_layer_gives_the_model_s_own_loss_and_that_of_a_model_without_a_head(rng):
    T, C, H = 8, 12, 3
    model = AttentionLM(5, C, H, 1, rng, Places(T, C, rng))
    ids = rng.integers(0, 5, (4, T + 1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    layer = Opened(model, inputs, targets)
    whole = float(ops.cross_entropy(model(inputs), targets).data)
    assert layer.own == pytest.approx(whole, rel=1e-5)
    alone = float(ops.cross_entropy(only_itself(model, inputs), targets).data)
    assert layer.own + layer.frozen([0, 1, 2], np.tile(np.eye(T), (H, 1, 1))) == pytest.approx(
        alone, rel=1e-5)                                        # the diagonal: own values alone
    assert abs(alone - whole) > 1e-4
    said = layer.out[:, 2].mean(axis=(0, 1))                    # (D,), over texts and places
    layer_out = layer.out.copy()
    layer_out[:, 2] = said
    assert layer.own + layer.averaged([2]) == pytest.approx(layer.nats(layer_out), rel=1e-6)
    assert Opened(model, inputs[:1], targets[:1]).frozen(
        [1], layer.weights[0]) == pytest.approx(0, abs=1e-6)    # one text: its own pattern
    model.layers[0].project.w.data[4:8] = 0                     # head 1 writes nothing
    without = float(ops.cross_entropy(model(inputs), targets).data)
    assert layer.own + layer.removed([1]) == pytest.approx(without, rel=1e-5)


def only_itself(model, inputs):
    """Logits if every head of the only layer gave all its weight to its own token."""
    x = model.positions(model.embed(inputs))
    values = model.layers[0].qkv(model.norms[0](x))[:, :, 2 * x.shape[2]:]
    return model.head(model.norm(x + model.layers[0].project(values)))


def test_one_layer_of_one_head_can_answer_two_questions_if_tokens_use_channels_of_their_own(rng):
    (x0, x1), (y0, y1) = rng.standard_normal((2, 2))            # exercise 2 of the note
    v = np.array([[x0, x1, 0, 0], [0, 0, y0, y1]])
    qkv = np.concatenate([np.zeros((2, 8)), v], axis=-1)[None]
    answer = multi_head(qkv, H=1)[0][0, 1] @ np.array([[2, 0], [0, 0], [0, 0], [0, 2]])
    assert answer == pytest.approx([x0, y1])


def test_counted_pairs_are_a_bigram_with_one_added():
    ids = np.array([0, 1, 0, 1, 1])                             # 01, 10, 01, 11
    p01, p10 = (2 + 1) / (2 + 2), (1 + 1) / (2 + 2)
    found = counted_pairs(ids, np.array([0, 1, 0]), 2)
    assert found == pytest.approx(-(math.log(p01) + math.log(p10)) / 2)


def test_habits_of_weights_that_are_known():
    T = 4
    inputs, before = np.array([[0, 1, 0, 1]]), np.eye(T, k=-1)[None]
    before[0, 0, 0] = 1                                         # all on the one before
    assert habits(before, inputs == 1) == pytest.approx([0, 1, 1, 0.5])
    assert looks_back(before, inputs, 1) == 1
    even = np.tri(T)[None] / np.arange(1, T + 1)[:, None]
    assert habits(even, inputs == 1)[:2] == pytest.approx([(1 / 3 + 1 / 4) / 2] * 2)
    assert habits(even, inputs == 1)[2] == pytest.approx((1 + 1.5) / 2)


def test_removing_heads_one_by_one_understates_what_removing_all_costs():
    result = measure(fast=True, seed=0)
    assert all(loss < 4.44 for _, losses in result.losses for loss in losses)   # ln 84: nothing
    assert all(abs(sum(line) - 1) < 0.02 for head in result.patterns for line in head)
    (one, *_, one_frozen), (four, _, summed, together, frozen) = result.changes
    assert (one, four) == (1, 4)
    assert 0 < summed < together                # removed one by one they seem to matter less
    assert result.together == [[together, frozen]]            # one seed: its mean is itself
    assert table(result)[-1][-2:] == [f"{together:+.2f}", f"{frozen:+.2f}"]
    assert one_frozen < frozen                  # more heads, more that depends on the text
    assert [size for *_, size in result.times] == [4 * H * 256**2 / 1e6 for H in (1, 4)]
