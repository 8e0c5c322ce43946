"""Day 33 · The block: its parts, and its parameters, FLOPs and bytes counted against measured."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from days.day33.counting import counted
from days.day33.run import measure
from days.day33.worth import ONE_MATRIX, VARIANTS, OneBlock
from llm.functions.dense import gelu
from llm.functions.dropout import draw_kept
from llm.grad import ops
from llm.grad.check import numerical_gradient
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_by_operation, saved_bytes
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward, count_flops, count_parameters, count_saved
from llm.layers.module import Module
from llm.layers.norm import LayerNorm

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make(C, H, rng, ratio=4, dropout=0.0):
    return Block(LayerNorm(C), MultiHeadAttention(C, H, rng), LayerNorm(C),
                 FeedForward(C, rng, ratio), dropout)


def by_hand(block, x):
    """The whole block written out for one text (T, C), float64, one query at a time."""
    p = {name: t.data.astype(np.float64) for name, t in block.named_parameters().items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * p[f"{name}.gain"] + p[f"{name}.bias"]

    T, C = x.shape
    H, D = block.mix.inner.H, C // block.mix.inner.H
    qkv = norm(x, "mix.norm") @ p["mix.inner.qkv.w"] + p["mix.inner.qkv.b"]
    answer = np.zeros((T, C))
    for h in range(H):
        q, k, v = (qkv[:, j * C + h * D:j * C + (h + 1) * D] for j in range(3))
        for t in range(T):
            weights = np.exp(k[:t + 1] @ q[t] / math.sqrt(D))
            answer[t, h * D:(h + 1) * D] = weights @ v[:t + 1] / weights.sum()
    x = x + answer @ p["mix.inner.project.w"] + p["mix.inner.project.b"]
    up = norm(x, "think.norm") @ p["think.inner.up.w"] + p["think.inner.up.b"]
    return x + gelu(up) @ p["think.inner.down.w"] + p["think.inner.down.b"]


def test_the_example_by_hand_two_memories():
    module = FeedForward(1, np.random.default_rng(0), ratio=2)
    module.up.w.data = np.array([[1.0, -1.0]], np.float32)    # keys 1 and −1
    for values, expected in (([1.0, -1.0], [1, -1, 3]), ([1.0, 1.0], [0.682384, 0.682384, None])):
        module.down.w.data = np.array(values, np.float32)[:, None]
        out = module(Tensor(np.array([[1.0], [-1], [3]], np.float32))).data[:, 0]
        for found, wanted in zip(out, expected):
            assert wanted is None or found == pytest.approx(wanted, abs=1e-6)


def test_the_example_by_hand_counts():
    assert count_parameters(2) == 16 + 8 + 32 + 10 + 8 == 74
    assert count_flops(2, T=3) == 2 * 12 * 4 + 4 * 3 * 2 == 120
    assert count_saved(2, T=3, H=1) == 16 * 2 + 3 + 2 == 37
    assert 12 * count_parameters(768) == 85_054_464          # the blocks of GPT-2 small


@pytest.mark.parametrize("C, H, T", [(4, 1, 1), (6, 3, 5), (8, 2, 9)])
def test_the_block_equals_one_written_out(rng, C, H, T):
    block, x = make(C, H, rng), rng.standard_normal((2, T, C))
    for p in block.named_parameters().values():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape)
    out = block(Tensor(x)).data
    assert out.dtype == np.float64
    for b in range(2):
        assert out[b] == pytest.approx(by_hand(block, x[b]))


def test_the_feed_forward_is_down_of_gelu_of_up(rng):
    module, x = FeedForward(3, rng, ratio=2), rng.standard_normal((2, 5, 3)).astype(np.float32)
    up, down = module.up, module.down
    expected = gelu(x @ up.w.data + up.b.data) @ down.w.data + down.b.data
    assert module(Tensor(x)).data == pytest.approx(expected, abs=1e-6)
    assert up.w.shape == (3, 6) and module.count_parameters() == 2 * 2 * 9 + 3 * 3
    other = FeedForward(3, rng, activation=ops.relu)
    assert (other(Tensor(np.full((1, 3), -1, np.float32))).data
            == other.down(ops.relu(other.up(Tensor(np.full((1, 3), -1, np.float32))))).data).all()


def test_hidden_channels_are_a_whole_number(rng):
    module = FeedForward(6, rng, ratio=2.5)
    assert module.up.w.shape == (6, 15) and module.down.w.shape == (15, 6)
    assert FeedForward(2, rng, ratio=0.5).up.w.shape == (2, 1)
    for channels, ratio, hidden in ((5, 2.5, 12.5), (6, 0, 0), (6, -1, -6), (0, 4, 0)):
        with pytest.raises(ValueError, match=f"makes {hidden} hidden channels of {channels}"):
            FeedForward(channels, rng, ratio)


def test_a_feed_forward_without_biases_and_in_float64(rng):
    module = FeedForward(3, rng, ratio=2, bias=False, dtype=np.float64)
    assert list(module.named_parameters()) == ["up.w", "down.w"]
    x = rng.standard_normal((2, 5, 3))
    assert module(Tensor(x)).dtype == np.float64
    assert module(Tensor(x)).data == pytest.approx(
        gelu(x @ module.up.w.data) @ module.down.w.data, abs=1e-12)


def test_gradients_reach_every_parameter_and_are_right(rng):
    block = make(4, 2, rng, ratio=2)
    parameters = block.named_parameters()
    for p in parameters.values():
        p.data = p.data.astype(np.float64) + 0.1 * rng.standard_normal(p.shape)
    x = Tensor(rng.standard_normal((1, 3, 4)), requires_grad=True)
    weights = rng.standard_normal((1, 3, 4))
    (block(x) * Tensor(weights)).sum().backward()
    assert len(parameters) == 12
    for p in [x, *parameters.values()]:
        numeric = numerical_gradient(lambda _: (block(x).data * weights).sum(), p.data)
        assert p.grad == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_a_token_knows_its_past_and_only_that(rng):
    block, x = make(8, 2, rng), rng.standard_normal((1, 6, 8)).astype(np.float32)
    changed = x.copy()
    changed[0, 3, 5] += 1                # not all channels: the norm takes a common shift away
    difference = np.abs(block(Tensor(x)).data - block(Tensor(changed)).data).max(axis=-1)[0]
    assert (difference[:3] == 0).all() and (difference[3:] > 0).all()


def test_thinking_is_for_each_token_by_itself(rng):
    block, x = make(8, 2, rng), rng.standard_normal((1, 6, 8)).astype(np.float32)
    order = rng.permutation(6)
    assert block.think(Tensor(x[:, order])).data == pytest.approx(
        block.think(Tensor(x)).data[:, order], abs=1e-5)


def test_parts_are_arguments(rng):
    class Nothing(Module):
        def __call__(self, x):
            return x * 0

    x = Tensor(rng.standard_normal((2, 3, 4)).astype(np.float32))
    empty = Block(LayerNorm(4), Nothing(), LayerNorm(4), Nothing())
    assert (empty(x).data == x.data).all()
    block = make(4, 2, rng)
    block.replace("think.inner", Nothing())
    assert (block(x).data == block.mix(x).data).all()


def test_dropout_needs_an_rng_and_leaves_the_stream(rng):
    block = make(8, 2, rng, dropout=0.5)
    x = Tensor(rng.standard_normal((2, 5, 8)).astype(np.float32))
    still = block(x).data
    assert (block(x).data == still).all()
    assert (block(x, rng).data != still).any()
    assert (block(x, np.random.default_rng(1)).data
            == block(x, np.random.default_rng(1)).data).all()
    unless_told = Block(block.mix.norm, block.mix.inner, block.think.norm, block.think.inner)
    assert (unless_told(x, rng).data == still).all()


def test_both_branches_are_dropped_each_by_its_own_draw(rng):
    block = make(8, 2, rng, dropout=0.5)
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    expected, draws = x, np.random.default_rng(1)
    for part in (block.mix, block.think):
        kept = draw_kept(x.shape, 0.5, draws)
        expected = expected + kept * (2 * part.inner(part.norm(Tensor(expected))).data)
    assert block(Tensor(x), np.random.default_rng(1)).data == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("C, H, ratio", [(4, 1, 4), (12, 3, 4), (64, 8, 4), (16, 2, 3)])
def test_parameters_are_as_counted(rng, C, H, ratio):
    assert make(C, H, rng, ratio).count_parameters() == count_parameters(C, ratio)


@pytest.mark.parametrize("B, T, C, H, ratio", [(1, 1, 4, 1, 4), (2, 7, 12, 3, 4),
                                               (3, 16, 16, 4, 4), (1, 40, 8, 2, 3)])
def test_flops_of_every_matmul_are_as_counted_and_the_backward_costs_twice_that(
        rng, B, T, C, H, ratio):
    block = make(C, H, rng, ratio)
    x = Tensor(rng.standard_normal((B, T, C)).astype(np.float32), requires_grad=True)
    with counted() as flops:
        out = block(x)
        forward = flops()
        out.sum().backward()
    assert forward == B * T * count_flops(C, T, ratio)
    assert out.data == pytest.approx(make(C, H, np.random.default_rng(0), ratio)(x).data, abs=1e-5)
    assert flops() == 3 * forward


@pytest.mark.parametrize("B, T, C, H, ratio", [(1, 1, 4, 1, 4), (2, 7, 12, 3, 4),
                                               (3, 16, 16, 4, 4), (1, 40, 8, 2, 3)])
def test_activations_kept_are_as_counted(rng, B, T, C, H, ratio):
    block = make(C, H, rng, ratio)
    out = block(Tensor(rng.standard_normal((B, T, C)).astype(np.float32)))
    assert saved_bytes(out) == 4 * B * T * count_saved(C, T, H, ratio)


def test_each_operation_keeps_what_the_note_says(rng):
    T, C, H = 7, 12, 3
    out = make(C, H, rng)(Tensor(rng.standard_normal((1, T, C)).astype(np.float32)))
    kept = {name: size / (4 * T) for name, size in saved_by_operation(out).items()}
    assert kept == {"layernorm": 2 * (C + 1), "linear": 7 * C, "multi_head": 3 * C + H * T,
                    "gelu": 4 * C, "add": 0}


@pytest.mark.parametrize("C, H, T", [(64, 4, 100), (768, 12, 1024), (12288, 96, 2048)])
def test_the_published_count_with_dropout_and_16_bits_is_the_same(C, H, T):
    published = 34 * C + 5 * H * T                 # bytes a token: sbh(34 + 5as/h) over sb
    masks = 2 * C + H * T                          # a byte for each number that is dropped
    dropped_weights = 2 * H * T                    # kept once more behind their dropout
    assert 2 * (count_saved(C, T, H) - 2) + masks + dropped_weights == published


def test_attention_overtakes_the_matrices_at_6c_and_its_weights_all_else_at_16d():
    for C, H in ((128, 4), (768, 12)):
        assert count_flops(C, 6 * C) == 2 * count_flops(C, 0)
        assert count_flops(C, 10 * C, ratio=8) == 2 * count_flops(C, 0, ratio=8)
        T = 16 * C // H
        assert count_saved(C, 0, H) - 2 == H * T


def test_what_is_compared_has_equal_parameters_tables_and_head_included(rng):
    sizes = [OneBlock(84, *variant[1:4], rng).count_parameters() for variant in VARIANTS[1:]]
    assert max(sizes) < 1.04 * min(sizes)
    assert sizes[0] > 2 * OneBlock(84, *VARIANTS[0][1:4], rng).count_parameters()


def test_a_single_matrix_can_take_the_place_of_the_feed_forward(rng):
    model = OneBlock(84, *ONE_MATRIX[1:4], rng)
    inner = model.block.think.inner
    assert list(inner.named_parameters()) == ["w", "b"] and inner.w.shape == (64, 64)
    assert model(np.zeros((1, 3), int)).shape == (1, 3, 84)


def test_every_rate_is_the_best_of_its_grid_and_not_at_an_edge():
    text = (ROOT / "experiments" / "feed_forward.json").read_text(encoding="utf-8")
    record = json.loads(text)
    rows = [*record["rows"], record["one_matrix"][:3]]
    for (name, *_, own), (same, best, grid) in zip((*VARIANTS, ONE_MATRIX), rows, strict=True):
        losses = dict(grid)
        assert name == same and own == best == min(losses, key=losses.get)
        assert min(losses) < best < max(losses)


def test_the_spread_of_each_matrix_is_as_asked(rng):
    module = FeedForward(64, rng, std=0.5, out_std=0.02)
    assert module.up.w.data.std() == pytest.approx(0.5, rel=0.03)
    assert module.down.w.data.std() == pytest.approx(0.02, rel=0.03)
    module = FeedForward(64, rng)
    assert module.up.w.data.std() == pytest.approx(1 / 8, rel=0.03)
    assert module.down.w.data.std() == pytest.approx(1 / 16, rel=0.03)      # from 4C = 256


def test_counted_and_measured_agree_in_every_row():
    result = measure(fast=True, seed=0)
    assert all(0 < loss < 5 for *_, losses in result.worth for loss in losses)
    for row in result.rows:
        assert row.parameters == row.parameters_measured
        assert row.flops == row.flops_measured and row.backward == 2
        assert row.saved == row.saved_measured


def test_the_start_scales_of_a_feed_forward_can_be_given(rng):
    module = FeedForward(40, rng, std=0.02, out_std=0.005)
    assert module.up.w.data.std() == pytest.approx(0.02, rel=0.05)
    assert module.down.w.data.std() == pytest.approx(0.005, rel=0.05)
