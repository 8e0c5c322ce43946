"""Day 34 · GPT: a model small enough to count by hand, the tied head, its start, its costs."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from days.day34.run import measure
from days.day34.untrained import first_losses, gelu_power
from llm.functions.dense import gelu
from llm.functions.tied import unembed, unembed_vjp
from llm.grad import ops
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor, no_grad
from llm.grad.walk import saved_bytes
from llm.layers.module import Module, parameter
from llm.layers.norm import LayerNorm
from llm.models.gpt import (
    GPT,
    GPTConfig,
    count_flops,
    count_parameters,
    count_saved,
    head,
    make_block,
)
from llm.train.adam import AdamW

TINY = GPTConfig(V=3, T=2, C=2, L=1, H=1)
SMALL = GPTConfig(V=11, T=6, C=8, L=2, H=2)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def exact(model, rng=None, std=0.3):
    """The model in float64; with an rng, with weights large enough that every part matters."""
    for p in model.named_parameters().values():
        p.data = p.data.astype(np.float64)
        if rng is not None:
            p.data += std * rng.standard_normal(p.shape)
    return model


def stream(model, ids):
    """What leaves each block, (B, T, C)."""
    x = model.positions(model.embed(ids))
    states = [x]
    for block in model.blocks:
        states.append(x := block(x))
    return states


def test_the_example_by_hand(rng):
    ln2 = math.log(2)
    model = exact(GPT(TINY, rng))
    model.blocks[0].mix.inner.project.w.data[...] = 0        # the block adds nothing
    model.blocks[0].think.inner.down.w.data[...] = 0
    model.embed.table.data[...] = [[ln2, 0], [0, ln2], [0, 0]]
    model.positions.table.data[...] = [[0, 0], [2 * ln2, 0]]
    ids, targets = np.array([[0, 1]]), np.array([[1, 0]])
    logits = model(ids)                                      # (1, −1) meets each row, twice
    assert logits.data[0] == pytest.approx(np.array([[ln2, -ln2, 0]] * 2), abs=1e-4)
    assert ops.softmax(logits).data[0, 1] == pytest.approx(np.array([4, 1, 2]) / 7, rel=1e-4)
    loss = model.loss(ids, targets)
    assert float(loss.data) == pytest.approx(math.log(3.5), rel=1e-4)
    loss.backward()
    assert model.embed.table.grad * 14 == pytest.approx(
        np.array([[1, -1], [-5, 5], [4, -4]]), abs=1e-2)


def test_the_parameters_counted_by_hand(rng):
    sizes = {name: p.data.size for name, p in GPT(TINY, rng).named_parameters().items()}
    block = "blocks.0."
    assert sizes == {
        "embed.table": 6, "positions.table": 4,
        block + "mix.norm.gain": 2, block + "mix.norm.bias": 2,
        block + "mix.inner.qkv.w": 12, block + "mix.inner.qkv.b": 6,
        block + "mix.inner.project.w": 4, block + "mix.inner.project.b": 2,
        block + "think.norm.gain": 2, block + "think.norm.bias": 2,
        block + "think.inner.up.w": 16, block + "think.inner.up.b": 8,
        block + "think.inner.down.w": 16, block + "think.inner.down.b": 2,
        "norm.gain": 2, "norm.bias": 2}
    assert sum(sizes.values()) == count_parameters(TINY) == 88


@pytest.mark.parametrize("config", [
    TINY, SMALL, GPTConfig(V=7, T=1, C=1, L=1, H=1), GPTConfig(V=50, T=9, C=12, L=5, H=3),
    GPTConfig(V=50, T=9, C=12, L=5, H=3, rotary=True),
    GPTConfig(V=50, T=9, C=12, L=5, H=3, tied=False),
    GPTConfig(V=50, T=9, C=12, L=5, H=3, rotary=True, tied=False)])
def test_the_formula_counts_what_is_built(config, rng):
    assert GPT(config, rng).count_parameters() == count_parameters(config)


@pytest.mark.parametrize("C, L, H, published", [
    (768, 12, 12, 124_439_808), (1024, 24, 16, 354_823_168), (1280, 36, 20, 774_030_080),
    (1600, 48, 25, 1_557_611_200)])
def test_the_four_gpt2s_have_their_published_size(C, L, H, published):
    assert count_parameters(GPTConfig(C=C, L=L, H=H)) == published


def test_the_default_is_gpt2_small(rng):
    config = GPTConfig()
    assert (config.V, config.T, config.C, config.L, config.H) == (50257, 1024, 768, 12, 12)
    assert count_parameters(config) == 124_439_808
    one_block = GPT(GPTConfig(V=1, T=1, L=1), rng).count_parameters()     # 28 MB, not 500
    per_block = 12 * 768**2 + 13 * 768
    assert one_block + 11 * per_block + (50256 + 1023) * 768 == 124_439_808


def test_the_head_is_the_table_once_more_and_nothing_else(rng):
    x, table = rng.standard_normal((2, 3, 4)), rng.standard_normal((7, 4))
    assert unembed(x, table)[0] == pytest.approx(np.einsum("btc,vc->btv", x, table))
    check_pair(unembed, unembed_vjp, x, table, rng=rng)
    check_pair(unembed, unembed_vjp, rng.standard_normal(4), table, rng=rng)
    square = rng.standard_normal((4, 4))                     # V = C hides a transposed gradient
    check_pair(unembed, unembed_vjp, x, square, rng=rng)
    assert sum(name.endswith("table") for name in GPT(SMALL, rng).state_dict()) == 2


def test_the_tied_gradient_is_the_sum_of_both_uses(rng):
    model = exact(GPT(SMALL, rng), rng)
    ids, targets = rng.integers(6, size=(3, 6)), rng.integers(11, size=(3, 6))
    model.loss(ids, targets).backward()
    tied = model.embed.table.grad
    model.zero_grad()
    other = parameter(model.embed.table.data.copy())         # an untied twin: the same numbers
    ops.cross_entropy(head(model.norm(stream(model, ids)[-1]), other), targets).backward()
    assert tied == pytest.approx(model.embed.table.grad + other.grad, rel=1e-12, abs=1e-15)
    assert (model.embed.table.grad[6:] == 0).all()           # never seen: nothing through reading
    assert (np.abs(other.grad[6:]) > 1e-6).all()             # but the head pushes every row


def test_an_untied_head_is_a_matrix_of_its_own(rng):
    assert GPTConfig().tied and GPT(SMALL, rng).head is None
    config = replace(SMALL, tied=False)
    assert count_parameters(config) == count_parameters(SMALL) + 11 * 8
    model, twin = (GPT(c, np.random.default_rng(3)) for c in (config, SMALL))
    state = model.state_dict()
    assert state.pop("head.w").shape == (8, 11)
    assert state.keys() == twin.state_dict().keys()          # all else starts as the tied twin
    assert all((array == twin.state_dict()[name]).all() for name, array in state.items())
    wide = GPT(GPTConfig(V=400, T=2, C=64, L=1, H=2, tied=False), rng)
    assert wide.head.w.data.std() == pytest.approx(0.02, rel=0.05) and wide.head.b is None
    exact(model, rng)
    ids, targets = rng.integers(6, size=(3, 6)), rng.integers(11, size=(3, 6))
    assert model(ids).data == pytest.approx(model.hidden(ids).data @ model.head.w.data)
    model.loss(ids, targets).backward()
    assert (model.embed.table.grad[6:] == 0).all()           # reading is its only use now
    assert (np.abs(model.head.w.grad) > 1e-6).all()


def test_the_tied_table_is_stepped_once(rng):
    model = GPT(SMALL, rng)
    before = model.embed.table.data.copy()
    model.loss(np.array([[1, 2, 3]]), np.array([[2, 3, 4]])).backward()
    AdamW(model.named_parameters(), decay=0.0).step(0.01)    # a first step is ± the rate
    assert np.abs(model.embed.table.data - before).max() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("rotary", [False, True])
def test_all_gradients_are_those_of_the_loss(rng, rotary):
    config = GPTConfig(V=5, T=3, C=4, L=2, H=2, rotary=rotary)
    model = exact(GPT(config, rng), rng)
    ids, targets = rng.integers(5, size=(2, 3)), np.array([[1, -100, 4], [0, 2, 2]])
    model.loss(ids, targets).backward()
    for name, p in model.named_parameters().items():
        numeric = numerical_gradient(lambda _: model.loss(ids, targets).data, p.data)
        assert p.grad == pytest.approx(numeric, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("rotary", [False, True])
def test_changing_a_token_leaves_earlier_logits_bit_identical(rng, rotary):
    model = GPT(GPTConfig(V=11, T=6, C=8, L=2, H=2, rotary=rotary), rng)
    ids = rng.integers(11, size=(2, 6))
    before = model(ids).data
    for t in range(6):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = model(changed).data
        assert (after[:, :t] == before[:, :t]).all()
        assert (after[:, t] != before[:, t]).any(axis=-1).all()


@pytest.mark.parametrize("rotary", [False, True])
def test_the_order_of_the_past_matters(rng, rotary):
    model = exact(GPT(GPTConfig(V=11, T=6, C=8, L=1, H=2, rotary=rotary), rng), rng)
    logits = model(np.array([[1, 2, 3, 4], [2, 1, 3, 4]])).data[:, -1]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    assert "positions.table" in model.state_dict() or rotary


def test_one_pass_makes_all_predictions_of_the_chain_rule(rng):
    model = exact(GPT(SMALL, rng), rng)
    ids, targets = rng.integers(11, size=(1, 6)), rng.integers(11, size=(1, 6))
    one_by_one = [float(model.loss(ids[:, :t + 1], np.where(np.arange(t + 1) == t,
                                                            targets[:, :t + 1], -100)).data)
                  for t in range(6)]                         # T passes, each asked for its last
    assert float(model.loss(ids, targets).data) == pytest.approx(np.mean(one_by_one))


@pytest.mark.parametrize("V", [30, 300, 3000])
def test_an_untrained_model_knows_nothing_yet(V):
    losses, C = [], 64
    for seed in range(8):
        rng = np.random.default_rng(seed)
        model = GPT(GPTConfig(V=V, T=16, C=C, L=2, H=2), rng)
        ids = rng.integers(V, size=(8, 17))
        with no_grad():
            losses.append(float(model.loss(ids[:, :-1], ids[:, 1:]).data))
    assert np.mean(losses) == pytest.approx(math.log(V) + C * 0.02**2 / 2, abs=0.03)


def test_the_logits_start_with_variance_c_std_squared(rng):
    for C in (32, 128, 512):
        model = GPT(GPTConfig(V=500, T=8, C=C, L=1, H=2), rng)
        with no_grad():
            logits = model(rng.integers(500, size=(4, 8))).data
        assert logits.var() == pytest.approx(C * 0.02**2, rel=0.1)


def test_the_stream_ends_as_wide_through_18_blocks_as_through_2():
    ends = {}
    for L in (2, 18):
        rng = np.random.default_rng(1)
        model = GPT(GPTConfig(V=50, T=16, C=64, L=L, H=2), rng)
        with no_grad():
            ends[L] = stream(model, rng.integers(50, size=(8, 16)))[-1].data.std()
        out = [w.std() for name, w in model.state_dict().items()
               if name.endswith(("project.w", "down.w"))]
        assert len(out) == 2 * L and out == pytest.approx([0.02 / math.sqrt(2 * L)] * 2 * L,
                                                          rel=0.06)
    assert ends[18] == pytest.approx(ends[2], rel=0.2)       # unscaled it is 2.6 times as wide


def test_everything_that_reads_starts_at_std_002_and_vectors_at_0_or_1(rng):
    for name, w in GPT(GPTConfig(V=200, T=100, C=64, L=2, H=2), rng).state_dict().items():
        if name.endswith("gain"):
            assert (w == 1).all()
        elif w.ndim == 1:
            assert (w == 0).all()
        elif not name.endswith(("project.w", "down.w")):
            assert w.std() == pytest.approx(0.02, rel=0.05), name


def test_dropout_acts_only_with_an_rng(rng):
    model = GPT(GPTConfig(V=11, T=6, C=8, L=2, H=2, dropout=0.5), rng)
    ids = rng.integers(11, size=(2, 6))
    assert (model(ids).data == model(ids).data).all()
    draw = lambda seed: model(ids, np.random.default_rng(seed)).data
    assert (draw(1) == draw(1)).all() and (draw(1) != draw(2)).any()
    assert (draw(1) != model(ids).data).any()
    first, second = (model.loss(ids, ids, np.random.default_rng(k)).data for k in (1, 2))
    assert first != second


def test_dropout_acts_on_the_embedding_and_in_each_block(rng):
    model = GPT(GPTConfig(V=11, T=6, C=8, L=2, H=2, dropout=0.5), rng)
    ids = rng.integers(11, size=(2, 6))
    places = [model.dropout, *(d for b in model.blocks for d in (b.mix.dropout, b.think.dropout))]
    assert len(places) == 5
    still = model(ids).data
    for place in places:                                     # one at a time, the others silenced
        for other in places:
            other.rate = 0.5 if other is place else 0.0
        assert (model(ids, np.random.default_rng(1)).data != still).any()
    for place in places:
        place.rate = 0.0
    assert (model(ids, np.random.default_rng(1)).data == still).all()


def test_an_untrained_model_echoes_as_derived():
    """Text in which every second token repeats the one before: the echo is worth 0.3 nats."""
    rng, ids = np.random.default_rng(0), [0]
    for _ in range(20_000):
        ids.append(ids[-1] if rng.random() < 0.5 else int(rng.integers(300)))
    config = GPTConfig(V=300, T=64, C=64, L=2, H=2)
    *_, plain, extra, expected, found, error, _, repeats = first_losses(
        "", np.array(ids), config, 12, 0)
    assert abs(found - expected) < 0.02 and repeats == pytest.approx(0.5, abs=0.02)
    assert found < plain + extra - 0.3


def test_what_gelu_lets_through_is_its_series_near_zero_and_less_than_two_terms_later(rng):
    for var in (1e-4, 1e-3):
        series = var / 4 + 3 * var**2 / (2 * math.pi) - 15 * var**3 / (6 * math.pi)
        assert gelu_power(var) == pytest.approx(series, rel=1e-5)
    sampled = np.mean(gelu(math.sqrt(0.3) * rng.standard_normal(1_000_000)) ** 2)
    assert gelu_power(0.3) == pytest.approx(sampled, rel=0.01)
    assert gelu_power(0.3) < 0.9 * (0.3 / 4 + 3 * 0.3**2 / (2 * math.pi))


def test_a_state_goes_round_and_fits_its_own_shape_only(rng):
    model, other = GPT(SMALL, rng), GPT(SMALL, rng)
    ids = rng.integers(11, size=(2, 6))
    assert (other(ids).data != model(ids).data).any()
    other.load_state_dict(model.state_dict())
    assert (other(ids).data == model(ids).data).all()
    with pytest.raises(ValueError, match="another config"):
        GPT(TINY, rng).load_state_dict(model.state_dict())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_dtype_is_kept_from_logits_to_gradients(rng, dtype, rotary):
    model = GPT(GPTConfig(V=11, T=6, C=8, L=2, H=2, dropout=0.1, rotary=rotary), rng)
    if dtype == np.float64:
        exact(model)
    ids = rng.integers(11, size=(2, 6))
    loss = model.loss(ids, ids, rng)
    loss.backward()
    assert model(ids).dtype == loss.dtype == dtype
    assert all(p.grad.dtype == dtype for p in model.named_parameters().values())


def test_the_saved_bytes_and_flops_are_as_counted(rng):
    config = GPTConfig(V=13, T=10, C=12, L=3, H=2)
    ids = rng.integers(13, size=(4, 10))
    model = GPT(config, rng)
    marks = 2 * ids.itemsize + 1                             # id, target, whether it counts
    assert saved_bytes(model.loss(ids, ids)) == ids.size * (4 * count_saved(config) + marks)
    weights = sum(p.data.size for name, p in model.named_parameters().items()
                  if p.ndim == 2 and name != "positions.table")
    assert count_flops(config) == 2 * weights + 4 * config.L * config.T * config.C
    assert count_flops(GPTConfig()) == 284_812_800


def test_generating_yields_n_ids_each_from_the_last_t_before_it(rng):
    model = exact(GPT(SMALL, rng), rng)
    window = [3, 1]
    for new in model.generate(window, 20, rng, temperature=0):
        logits = model(np.array([window[-SMALL.T:]])).data[0, -1]
        assert new == logits.argmax()
        window.append(new)
    assert len(window) == 22
    long = list(range(11)) + [5, 5, 4]
    assert list(model.generate(long, 4, rng, 0)) == list(model.generate(long[-6:], 4, rng, 0))
    assert list(model.generate(np.array([2]), 0, rng)) == []


def test_the_same_rng_writes_the_same_text(rng):
    model = exact(GPT(SMALL, rng), rng)
    write = lambda seed: list(model.generate([1], 30, np.random.default_rng(seed)))
    assert write(1) == write(1) != write(2)
    assert all(type(i) is int and 0 <= i < 11 for i in write(3))


def test_generating_records_nothing(rng):
    class Watched(GPT):
        def __call__(self, ids, rng=None):
            out = super().__call__(ids, rng)
            assert out.node is None and not out.requires_grad
            return out

    assert len(list(Watched(SMALL, rng).generate([1], 3, rng))) == 3


def test_a_block_of_ones_own_can_be_given(rng):
    class Nothing(Module):
        def __call__(self, x, rng=None):
            return x

    model = GPT(SMALL, rng, block=lambda config, rng: Nothing())
    assert model.count_parameters() == (11 + 6) * 8 + 2 * 8
    ids = np.array([[1, 2]])
    x = model.embed.table.data[ids] + model.positions.table.data[:2]
    expected = model.norm(Tensor(x)).data @ model.embed.table.data.T
    assert model(ids).data == pytest.approx(expected)


def test_another_activation_no_biases_and_float64_reach_every_part(rng):
    block = functools.partial(make_block, activation=ops.relu, bias=False)
    model = GPT(SMALL, rng, block=block)
    assert all(b.think.inner.activation is ops.relu for b in model.blocks)
    assert [name for name in model.named_parameters() if name.endswith(("b", "bias"))] == [
        "norm.bias"]
    model.replace("norm", LayerNorm(SMALL.C, bias=False))
    ids = np.array([[1, 2, 3]])
    assert model(ids).shape == (1, 3, SMALL.V)
    same, wide = (GPT(SMALL, np.random.default_rng(4), dtype=t) for t in (np.float32, np.float64))
    assert {p.dtype.name for p in wide.named_parameters().values()} == {"float64"}
    for name, p in same.named_parameters().items():
        assert (p.data == wide.named_parameters()[name].data).all()
    loss = wide.loss(ids, ids)
    loss.backward()
    assert loss.dtype == wide(ids).dtype == np.float64
    assert float(loss.data) == pytest.approx(float(same.loss(ids, ids).data), abs=1e-6)
    straight = make_block(SMALL, np.random.default_rng(0), dtype=np.float64)
    assert {p.dtype.name for p in straight.named_parameters().values()} == {"float64"}


def test_attention_weights_are_dropped_where_it_is_asked_for(rng):
    ids = rng.integers(0, SMALL.V, (2, 6))
    block = functools.partial(make_block, attention_dropout=0.5)
    model, usual = (GPT(SMALL, np.random.default_rng(0), block=b) for b in (block, make_block))
    assert np.array_equal(model(ids).data, usual(ids).data)           # not without an rng
    one, again, other = (model(ids, np.random.default_rng(n)).data for n in (1, 1, 2))
    assert np.array_equal(one, again) and (one != other).any()
    assert np.array_equal(usual(ids, np.random.default_rng(1)).data, usual(ids).data)


def test_one_token_is_enough(rng):
    model = GPT(GPTConfig(V=2, T=1, C=2, L=1, H=1), rng)
    assert model(np.array([[1]])).shape == (1, 1, 2)
    assert len(list(model.generate([0], 3, rng))) == 3


def test_ids_that_do_not_fit_are_refused(rng):
    model = GPT(SMALL, rng)
    for shape in [(2, 7), (6,), (2, 0), (0, 3), (1, 2, 3)]:
        with pytest.raises(ValueError, match=r"wanted \(B, T\) with B ≥ 1 and 1 ≤ T ≤ 6") as told:
            model(np.zeros(shape, int))
        assert str(shape) in str(told.value)
    for bad in (-1, 11):
        with pytest.raises(ValueError, match=rf"id {bad} at position \(0, 1\)"):
            model(np.array([[0, bad]]))
    with pytest.raises(ValueError, match=r"logits \(1, 3, 11\) need targets \(1, 3\)"):
        model.loss(np.array([[1, 2, 3]]), np.array([[1, 2]]))
    with pytest.raises(ValueError, match="at least one id"):
        next(model.generate([], 1, rng))


def test_shapes_that_cannot_be_are_refused():
    for name in "VTCLH":
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            GPTConfig(**{name: 0})
    with pytest.raises(ValueError, match="5 heads do not divide 768 channels"):
        GPTConfig(H=5)
    with pytest.raises(ValueError, match=r"x \(2, 3\) and table \(7, 4\)"):
        unembed(np.zeros((2, 3)), np.zeros((7, 4)))


def test_the_start_is_as_foretold_and_one_batch_can_be_learned_by_heart():
    result = measure(fast=True, seed=0)
    for *_, uniform, _, expected, found, _, _, _ in result.starts:
        assert abs(found - expected) < 0.1 and abs(found - uniform) < 0.1
    for name in ("2 scaled", "8 scaled", "2 unscaled", "8 unscaled"):
        low, high = (curve[-1] for curve in result.expected[name])
        assert 0.95 * low < result.widths[name][-1] < 1.05 * high
    assert result.widths["8 unscaled"][-1] > 1.5 * result.widths["8 scaled"][-1]
    assert result.saved[0] == result.saved[1]
    assert result.overfit[-1] < 0.2 < 4 < result.overfit[0]
    assert result.recited[0] > 0.9 * result.recited[1]
    assert result.unseen[1] > result.unseen[0]               # learned by heart, not understood


def test_the_rate_of_dropout_reaches_both_branches_of_every_block(rng):
    model = GPT(replace(SMALL, dropout=0.25), rng)
    assert [part.dropout.rate for b in model.blocks for part in (b.mix, b.think)] == [0.25] * 4
