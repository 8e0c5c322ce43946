"""Day 29 · Many heads: the hand example, a float64 loop over heads, gradients, and the module."""

import math

import numpy as np
import pytest

from days.day29.run import measure
from llm.functions.causal import causal_attention
from llm.functions.heads import (
    NO_RULE,
    PositionRule,
    merge_heads,
    multi_head,
    multi_head_vjp,
    split_heads,
)
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


def test_the_example_by_hand():
    ln3 = math.log(3)                       # two heads of one channel: q₁ q₂ | k₁ k₂ | v₁ v₂
    qkv = np.array([[[0, 0, 0, ln3, 2, 8],
                     [0, 1, 0, 0, 4, 0]]])
    out, _ = multi_head(qkv, H=2)           # head 1 averages, head 2 weighs 3 : 1
    assert out == pytest.approx(np.array([[[2, 8], [3, 6]]]))


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


def test_heads_that_do_not_divide_are_refused(rng):
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        MultiHeadAttention(8, 3, rng)
    with pytest.raises(ValueError, match="0 heads"):
        MultiHeadAttention(8, 0, rng)
    for shape in [(2, 5, 8), (5, 12)]:
        with pytest.raises(ValueError, match=rf"{shape[-1]}\) with 2 heads: wanted \(B, T, 3"):
            multi_head(np.zeros(shape), H=2)


def test_heads_of_a_trained_model_look_at_different_places():
    result = measure(fast=True, seed=0)
    for shares in zip(*[row[1:] for row in result.heads]):
        assert min(shares) >= 0
    assert max(row[3] for row in result.heads) > 1.5 * min(row[3] for row in result.heads)
    assert all(abs(sum(line) - 1) < 0.02 for head in result.patterns for line in head)
    assert all(loss < 4.44 for _, loss, _ in result.by_heads)        # ln 84 is knowing nothing
