"""Day 54 · LoRA and QLoRA: by hand, against differences and float64, their twins, and files."""

import json
import math
import struct

import numpy as np
import pytest

from days.day52.made import gguf_bytes, small_llama
from days.day54 import costs, errors, sums
from days.day54.run import measure
from experiments import lora as study
from llm.functions import chunked, grouped, lowrank
from llm.functions.dense import linear
from llm.generate.pretrained import load
from llm.grad import ops
from llm.grad.check import check_pair
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor, no_grad
from llm.grad.walk import saved_bytes, topological
from llm.kernels import grouped as grouped_kernels
from llm.kernels import lowrank as kernels
from llm.kernels import nf4 as nf4_kernel
from llm.layers.grouped import spread
from llm.layers.module import Linear, Module
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig, count_parameters, inference_name
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.tune import lean as lean_file
from llm.tune import lora, nf4, peft_files, qlora
from llm.tune.fast_lora import fast, twins
from llm.tune.lora import FrozenLinear, LoRALinear, add_lora, freeze, loss_of, merge, unmerge
from llm.weights.cursor import GGUFError

SMALL = LlamaConfig(V=29, T=8, C=16, L=2, H=4, K=2, F=32, base=100.0)
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
NEXT = np.array([[1, 4, 1, 5, 9], [2, 6, -100, 3, 5]])


@pytest.fixture
def rng():
    return np.random.default_rng(54)


def adapted(rng, rank=3, alpha=6.0, trained=True, exact=True, config=SMALL, kind=Llama, **options):
    """A model with adapters; trained: B is not 0 any more."""
    model = kind(config, rng)
    if exact:
        for p in model.named_parameters().values():
            p.data = p.data.astype(np.float64) + 0.1 * rng.standard_normal(p.shape)
    adapters = add_lora(model, rank, alpha, rng, **options)
    if trained:
        for layer in adapters.values():
            layer.b.data = (0.3 * rng.standard_normal(layer.b.shape)).astype(layer.b.dtype)
    return model, adapters


# By hand

X, W, A, B = np.array([[1.0, 2]]), np.eye(2), np.array([[1.0], [3]]), np.array([[2.0, -1]])


def test_the_example_by_hand():
    """x = (1, 2), W = 1, A = (1, 3)ᵀ, B = (2, −1), s = ½: x A = 7, and y = (1, 2) + ½·7·(2, −1)."""
    y, saved = lowrank.lora(X, A, B, W, scale=0.5, widths=(2,))
    assert y.tolist() == [[8, -1.5]]
    dx, da, db, *frozen = lowrank.lora_vjp(np.array([[1.0, 0]]), *saved)
    assert db.tolist() == [[3.5, 0]]                       # s · 7 · (1, 0)
    assert da.tolist() == [[1], [2]]                       # x · s · dy Bᵀ = x · 1
    assert dx.tolist() == [[2, 3]]                         # dy Wᵀ + 1 · Aᵀ
    assert frozen == [None, None]


def test_the_example_by_hand_at_the_start():
    """B = 0: the output is that of W, dA = 0, dB is not."""
    y, saved = lowrank.lora(X, A, 0 * B, W, scale=0.5, widths=(2,))
    dx, da, db, *_ = lowrank.lora_vjp(np.array([[1.0, 0]]), *saved)
    assert (y == X).all() and not da.any() and db.tolist() == [[3.5, 0]]
    assert dx.tolist() == [[1, 0]]


def test_the_example_by_hand_two_parts():
    """Two matrices side by side: each output has the x A of its own part."""
    a, b = np.array([[1.0, 0], [0, 1]]), np.array([[10.0, 100]])
    y, _ = lowrank.lora(X, a, b, 0 * W, scale=1, widths=(1, 1))
    assert y.tolist() == [[10, 200]]


def test_the_example_by_hand_numbers_trained():
    """SmolLM2, r = 8: 81,408 numbers a block and 2,442,240 in all, 1.8 % of the model."""
    config = LlamaConfig(V=1, T=1, L=1)
    model = Llama(config, qlora.Zeros())
    add_lora(model, 8, 16, np.random.default_rng(0))
    assert model.count_parameters() == 81_408
    assert 30 * 81_408 == 2_442_240
    assert 100 * 2_442_240 / count_parameters(LlamaConfig()) == pytest.approx(1.8, abs=0.05)


def test_the_example_by_hand_levels():
    """The paper's sixteen numbers (appendix E), from quantiles of a normal distribution."""
    assert nf4.levels() == pytest.approx([
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], abs=1e-6)
    assert abs(nf4.EDGE - 0.9677083) < 1e-7
    assert nf4.bits_a_weight() == pytest.approx(4.127, abs=5e-4)
    assert nf4.bits_a_weight(double=False) == 4.5
    assert nf4.bits_a_weight(128, 512) == 4 + 8 / 128 + 32 / 65536


def test_the_example_by_hand_codes():
    """A block whose largest number is 2: 2 has code 15, −2 code 0, and 0.1 is nearest to 0.159."""
    w = np.zeros(64)
    w[:4] = 2, -2, 0.1, -0.05
    q = nf4.quantise(w)
    assert q.codes[:3].tolist() == [15 | 0 << 4, 8 | 7 << 4, 7 | 7 << 4]
    assert q.mean == 2 and q.scales.tolist() == [0] and q.groups.tolist() == [0]
    assert q.dense()[:5] == pytest.approx([2, -2, 2 * 0.0795803, 0, 0], abs=1e-6)


# Invariants

@pytest.mark.parametrize("kind, config", [(Llama, SMALL), (GPT, GPTConfig(
    V=29, T=8, C=16, L=2, H=4, rotary=True))])
def test_at_the_start_nothing_changes_and_a_has_no_gradient(rng, kind, config):
    plain = kind(config, rng)
    before, state = plain(IDS).data.copy(), plain.state_dict()
    kept = {name: a.tobytes() for name, a in state.items()}
    adapters = add_lora(plain, 4, 8, rng)
    assert (plain(IDS).data == before).all()
    plain.loss(IDS, NEXT).backward()
    for layer in adapters.values():
        assert not layer.a.grad.any() and layer.b.grad.any()
        assert layer.a.data.any() and not layer.b.data.any()
    assert {name: a.tobytes() for name, a in state.items()} == kept
    assert set(plain.named_parameters()) == {f"{path}.{end}" for path in adapters for end in "ab"}


def test_a_is_uniform_with_the_bound_of_the_inputs(rng):
    layer = LoRALinear(FrozenLinear(np.zeros((400, 6), np.float32)), 8, 1, rng)
    assert np.abs(layer.a.data).max() == pytest.approx(1 / 20, rel=0.01)
    assert layer.a.data.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.05)
    assert layer.a.shape == (400, 8) and layer.b.shape == (8, 6)
    assert layer.a.dtype == layer.b.dtype == np.float32


def test_training_moves_adapters_only_and_the_base_not_by_a_bit(rng):
    model, adapters = adapted(rng, trained=False, exact=False)
    frozen = {name: a.tobytes() for name, a in model.state_dict().items()
              if name not in model.named_parameters()}
    assert len(frozen) == len(model.state_dict()) - 2 * len(adapters)
    losses = train(model, rate=5e-2)
    assert losses[-1] < losses[0] - 0.1
    state = model.state_dict()
    assert {name: state[name].tobytes() for name in frozen} == frozen
    assert all(layer.a.data.any() and layer.b.data.any() for layer in adapters.values())


def train(model, steps=30, rate=1e-2):
    def batches():
        while True:
            yield IDS, NEXT
    parameters = model.named_parameters()
    return fit(parameters, lambda batch: (loss_of(model, *batch), 9), batches(),
               AdamW(parameters, decay=0), Constant(rate), steps=steps).losses


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("kind, config", [(Llama, SMALL), (GPT, GPTConfig(
    V=29, T=8, C=16, L=2, H=4, rotary=True))])
def test_merged_equals_unmerged_and_unmerging_is_exact(rng, kind, config, rslora):
    model, adapters = adapted(rng, kind=kind, config=config, rslora=rslora)
    apart = model(IDS).data
    base = {path: layer.base.weight().tobytes() for path, layer in adapters.items()}
    kept = merge(model)
    assert kept == adapters and not dict(model.named(LoRALinear))
    assert model(IDS).data == pytest.approx(apart, rel=1e-9, abs=1e-9)
    unmerge(model, kept)
    assert (model(IDS).data == apart).all()
    assert {path: layer.base.weight().tobytes() for path, layer in adapters.items()} == base


def test_a_merged_llama_decodes_like_the_adapted_one(rng):
    from llm.generate.cache import KVCache
    from llm.generate.decode import decode
    model, _ = adapted(rng, exact=False)
    expected = model(IDS[:1]).data[0]
    merge(model)
    arch, weights = model.for_inference()
    assert decode(arch, weights, IDS[0], KVCache(arch)) == pytest.approx(expected, abs=1e-4)


def test_the_scale_is_alpha_over_rank_or_over_its_root(rng):
    base = FrozenLinear(np.zeros((4, 6)))
    assert LoRALinear(base, 4, 6.0, rng).scale == 1.5
    assert LoRALinear(base, 4, 6.0, rng, rslora=True).scale == 3
    layer = LoRALinear(base, 2, 6.0, rng, (2, 4))
    layer.b.data = rng.standard_normal((2, 6))
    a, b = layer.a.data, layer.b.data
    expected = np.hstack([3 * a[:, :2] @ b[:, :2], 3 * a[:, 2:] @ b[:, 2:]])
    assert layer.change() == pytest.approx(expected)
    assert np.linalg.matrix_rank(layer.change()) <= 4


def test_a_qkv_gets_three_adapters_and_others_one(rng):
    model, adapters = adapted(rng, rank=3)
    assert adapters["blocks.1.mix.inner.qkv"].widths == (16, 8, 8)
    assert adapters["blocks.1.mix.inner.qkv"].a.shape == (16, 9)
    assert adapters["blocks.0.think.inner.down"].widths == (16,)
    assert len(adapters) == 10
    gpt, adapters = adapted(rng, kind=GPT, config=GPTConfig(V=29, T=8, C=12, L=1, H=3))
    assert adapters["blocks.0.mix.inner.qkv"].widths == (12, 12, 12)


@pytest.mark.parametrize("targets, n", [(("qkv",), 2), (("blocks.1.think.inner.up", "down"), 3)])
def test_only_what_is_named_gets_adapters_and_the_rest_is_frozen(rng, targets, n):
    model, adapters = adapted(rng, targets=targets)
    assert len(adapters) == n and len(model.named_parameters()) == 2 * n
    assert not dict(model.named(Linear))


# Oracles: finite differences, float64 brute force

@pytest.mark.parametrize("widths", [(6,), (2, 4), (1, 2, 3)])
@pytest.mark.parametrize("biased", [False, True])
def test_lora_equals_the_merged_layer_and_finite_differences(rng, widths, biased):
    for shape in ((1, 4), (2, 3, 4), (5, 4)):
        x, w, bias = rng.standard_normal(shape), rng.standard_normal((4, 6)), None
        bias = rng.standard_normal(6) if biased else None
        a, b = rng.standard_normal((4, 2 * len(widths))), rng.standard_normal((2, 6))
        y, _ = lowrank.lora(x, a, b, w, bias, scale=0.7, widths=widths)
        change, low = np.zeros((4, 6)), 0
        for p, width in enumerate(widths):
            change[:, low:low + width] = a[:, 2 * p:2 * p + 2] @ b[:, low:low + width]
            low += width
        assert y == pytest.approx(linear(x, w + 0.7 * change, bias), rel=1e-12)
        check_pair(lowrank.lora, lowrank.lora_vjp, x, a, b, w, bias, rng=rng,
                   differentiable=[0, 1, 2], scale=0.7, widths=widths)


@pytest.mark.parametrize("biased", [False, True])
def test_a_frozen_layer_equals_day_14s_and_keeps_no_input(rng, biased):
    x, w = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5))
    bias = rng.standard_normal(5) if biased else None
    y, saved = lowrank.frozen_linear(x, w, bias)
    assert (y == linear(x, w, bias)).all() and len(saved) == 1 and saved[0] is w
    check_pair(lowrank.frozen_linear, lowrank.frozen_linear_vjp, x, w, bias, rng=rng,
               differentiable=[0])
    assert lowrank.frozen_linear_vjp(y, *saved)[1:] == (None, None)


def test_a_weight_may_be_a_function_that_is_called_twice_and_not_kept(rng):
    w, calls = rng.standard_normal((4, 5)), []

    def make():
        calls.append(1)
        return w.copy()

    x, a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), rng.standard_normal((2, 5))
    for f, f_vjp in ((lowrank.lora, lowrank.lora_vjp), (kernels.lora, kernels.lora_vjp)):
        y, saved = f(x, a, b, make, scale=1, widths=(5,))
        got = f_vjp(y, *saved)
        y2, saved2 = f(x, a, b, w, scale=1, widths=(5,))
        assert (y == y2).all() and all((p == q).all() for p, q in zip(got[:3], f_vjp(y, *saved2)))
        assert len(calls) == 2 and any(s is make for s in saved)
        assert not any(isinstance(s, np.ndarray) and s.shape == w.shape for s in saved)
        calls.clear()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_the_heads_loss_in_chunks_equals_day_15s(rng, chunk):
    hidden, table = rng.standard_normal((2, 3, 4)), 3 * rng.standard_normal((9, 4))
    targets = np.array([[1, -100, 8], [0, 4, -100]])
    h = Tensor(hidden, requires_grad=True)
    expected = ops.cross_entropy(h @ Tensor(table.T), targets)
    expected.backward(np.array(0.3))
    loss, saved = chunked.head_loss(hidden, table, targets, chunk=chunk)
    assert loss == pytest.approx(float(expected.data), rel=1e-12) and loss.dtype == np.float64
    dhidden, *rest = chunked.head_loss_vjp(np.array(0.3), *saved)
    assert dhidden == pytest.approx(h.grad, rel=1e-10, abs=1e-12) and rest == [None, None]
    alone, kept = chunked.head_loss(hidden, table, targets, chunk=chunk, gradient=False)
    assert alone == loss and kept == (None,)
    check_pair(chunked.head_loss, chunked.head_loss_vjp, hidden, table, targets, rng=rng,
               differentiable=[0], chunk=chunk)


def test_large_logits_neither_overflow_nor_lose_the_loss(rng):
    hidden, table = np.array([[100.0], [-100]]), np.array([[10.0], [-10]])
    for f in (chunked.softmax_grad, kernels.softmax_grad):
        kind = np.float32 if f is kernels.softmax_grad else np.float64
        loss, (dhidden,) = chunked.head_loss(hidden.astype(kind), table.astype(kind),
                                             np.array([0, 0]), softmax=f)
        assert loss == pytest.approx(1000) and np.isfinite(dhidden).all()
        assert dhidden[:, 0] == pytest.approx([0, -10])


def test_the_loss_of_a_model_equals_its_own(rng):
    for config in (SMALL, LlamaConfig(V=29, T=8, C=16, L=1, H=2, K=1, F=32, tied=False)):
        model, adapters = adapted(rng, config=config)
        own = model.loss(IDS, NEXT)
        own.backward()
        expected = {path: (layer.a.grad, layer.b.grad) for path, layer in adapters.items()}
        model.zero_grad()
        for chunk in (2, 128):
            loss = loss_of(model, IDS, NEXT, chunk=chunk)
            assert float(loss.data) == pytest.approx(float(own.data), rel=1e-12)
            loss.backward()
            for path, layer in adapters.items():
                assert layer.a.grad == pytest.approx(expected[path][0], abs=1e-10)
                assert layer.b.grad == pytest.approx(expected[path][1], abs=1e-10)
            model.zero_grad()
        with no_grad():
            assert float(loss_of(model, IDS, NEXT, gradient=False).data) == pytest.approx(
                float(own.data), rel=1e-12)


def test_a_single_target_is_its_own_mean():
    """Logits 0 and ln 3 have the probabilities ¼ and ¾; the token without a target is not there."""
    hidden, table = np.array([[1.0, 0], [9, 9]]), np.array([[0.0, 1], [math.log(3), 1]])
    loss, (dhidden,) = chunked.head_loss(hidden, table, np.array([0, -100]))
    assert loss == pytest.approx(math.log(4))
    assert dhidden == pytest.approx(np.array([0.75 * (table[1] - table[0]), [0, 0]]))


def test_without_a_target_the_loss_is_0(rng):
    none = np.full(3, -100)
    loss, (dhidden,) = chunked.head_loss(rng.standard_normal((3, 2)), np.ones((4, 2)), none)
    assert loss == 0 and not dhidden.any()


# NF4

def test_every_weight_goes_to_the_nearest_level_and_codes_survive_packing(rng):
    w = rng.standard_normal((24, 128)).astype(np.float32) * rng.uniform(0.1, 3, (24, 1))
    q = nf4.quantise(w)
    scales = nf4.unquantise_scales(q.scales, q.groups, q.mean)
    dense = np.abs(w.reshape(-1, 64, 1) - nf4.levels() * scales[:, None, None])
    assert q.dense().shape == w.shape and q.dense().dtype == np.float32
    assert np.abs(q.dense() - w).reshape(-1, 64) == pytest.approx(dense.min(axis=2), abs=1e-6)
    again = nf4.quantise(w)
    assert all((a == b).all() for a, b in zip((q.codes, q.scales, q.groups),
                                              (again.codes, again.scales, again.groups)))


def test_double_quantisation_costs_what_it_should(rng):
    q = nf4.quantise(rng.standard_normal((256, 64 * 3)))
    n = 256 * 64 * 3
    assert q.bytes() == n // 2 + n // 64 + 4 * (n // 64 // 256) + 4
    assert 8 * (q.bytes() - 4) / n == pytest.approx(nf4.bits_a_weight())
    largest = np.abs(rng.standard_normal(300)).astype(np.float32) + 1
    scales, groups, mean = nf4.quantise_scales(largest)
    assert scales.dtype == np.int8 and groups.shape == (2,) and mean.dtype == np.float32
    found = nf4.unquantise_scales(scales, groups, mean)
    assert mean == pytest.approx(largest.mean(), rel=1e-6)
    for part in (slice(0, 256), slice(256, 300)):
        apart = np.abs(largest[part] - mean).max()
        assert np.abs(found - largest)[part].max() <= apart / 254 * 1.01
    assert np.abs(scales.astype(int)).max() == 127


def test_a_block_of_zeros_and_a_scale_below_zero_stay_harmless(rng):
    w = np.zeros((3, 64), np.float32)
    w[0] = rng.standard_normal(64)
    w[1] = 1e-6
    found = nf4.quantise(w).dense()
    assert np.isfinite(found).all() and not found[2].any()
    assert not nf4.quantise(np.zeros(64)).dense().any()
    assert (nf4.unquantise_scales(np.array([-127], np.int8), np.array([1.0], np.float32),
                                  np.float32(5)) == 0).all()


def test_nf4_beats_uniform_int4_on_normal_weights_and_not_on_uniform_ones(rng):
    """With the same block of 64 and exact scales for both: 16 even steps between −max and max."""
    def error(levels, blocks):
        scale = np.abs(blocks).max(axis=1, keepdims=True)
        middles = (levels[1:] + levels[:-1]) / 2
        return ((levels[np.searchsorted(middles, blocks / scale)] * scale - blocks) ** 2).mean()

    even = np.linspace(-1, 1, 16)
    normal, flat = rng.standard_normal((4000, 64)), rng.uniform(-1, 1, (4000, 64))
    assert error(nf4.levels(), normal) < 0.85 * error(even, normal)
    assert error(nf4.levels(), flat) > 1.2 * error(even, flat)


# QLoRA

def test_the_gradient_through_4_bits_is_that_of_the_matrix_as_it_is_read(rng):
    q, _ = adapted(rng, exact=False, config=LlamaConfig(V=29, T=8, C=64, L=1, H=4, K=2, F=64))
    model = Llama(q.config, rng)
    layers = qlora.quantise_base(model)
    assert set(layers) == {f"blocks.0.{p}" for p in peft_files.PARTS}
    adapters = add_lora(model, 2, 4, np.random.default_rng(1))
    read = Llama(q.config, np.random.default_rng(0))
    for name, tensor in read.named_parameters().items():
        path = name.rpartition(".")[0]
        tensor.data = layers[path].weight() if path in layers else model.state_dict()[name]
    others = add_lora(read, 2, 4, np.random.default_rng(1))
    for mine, other in zip(adapters.values(), others.values(), strict=True):
        mine.b.data = other.b.data = rng.standard_normal(mine.b.shape).astype(np.float32)
    frozen = {name: a.tobytes() for name, a in model.state_dict().items()
              if name not in model.named_parameters()}
    losses = [float(loss_of(m, IDS, NEXT).data) for m in (model, read)]
    for m in (model, read):
        loss_of(m, IDS, NEXT).backward()
    assert losses[0] == losses[1]
    for mine, other in zip(adapters.values(), others.values(), strict=True):
        assert (mine.a.grad == other.a.grad).all() and (mine.b.grad == other.b.grad).all()
    train(model, steps=3)
    state = model.state_dict()
    assert {name: state[name].tobytes() for name in frozen} == frozen
    assert any(name.endswith("codes") for name in frozen)
    merged = merge(model)["blocks.0.mix.inner.qkv"]
    assert model.get("blocks.0.mix.inner.qkv").weight() == pytest.approx(
        layers["blocks.0.mix.inner.qkv"].weight() + merged.change())


def test_no_float32_matrix_is_kept_by_the_record(rng):
    config = LlamaConfig(V=29, T=8, C=64, L=2, H=4, K=2, F=128)
    model = Llama(config, rng)
    qlora.quantise_base(model)
    layers = add_lora(model, 2, 4, rng)
    node, seen = loss_of(model, IDS, NEXT).node, 0
    for place in topological(node):
        for array in getattr(place, "saved", ()):
            if isinstance(array, np.ndarray):
                seen += 1
                assert array.shape not in {(layer.base.cin, layer.base.cout)
                                           for layer in layers.values()}
    assert seen > 20


def open_made(tmp_path, rng, **options):
    metadata, tensors, weights = small_llama(rng, C=64, H=2, K=1, F=64, **options)
    (tmp_path / "made.gguf").write_bytes(gguf_bytes(metadata, tensors))
    return load(tmp_path / "made.gguf"), weights


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_is_opened_in_4_bits_matrix_by_matrix(tmp_path, rng, tied):
    pretrained, weights = open_made(tmp_path, rng, tied=tied)
    model = qlora.open_quantised(pretrained)
    assert not model.named_parameters() and model.config.tied == tied
    config = model.config
    assert (config.V, config.C, config.L, config.H, config.K, config.F) == (261, 64, 2, 2, 1, 64)
    plain = Llama(config, rng)
    for name, p in plain.named_parameters().items():
        p.data = np.ascontiguousarray(weights[inference_name(name)]).astype(np.float32)
    assert (model.embed.table.data == plain.embed.table.data).all()
    assert (model.get("blocks.1.think.norm").gain.data
            == plain.get("blocks.1.think.norm").gain.data).all()
    qlora.quantise_base(plain)
    assert model(IDS).data == pytest.approx(plain(IDS).data, abs=1e-5)
    layer = model.get("blocks.0.mix.inner.qkv")
    assert isinstance(layer, qlora.NF4Linear)
    assert layer.weight() == pytest.approx(weights["blocks.0.qkv.w"], abs=0.35)
    frozen = 4 * (261 * 64 * (1 if tied else 2) + 64 * 5)
    matrices = 2 * (64 * 128 + 64 * 64 + 3 * 64 * 64)
    assert qlora.base_bytes(model) == pytest.approx(frozen + matrices * 4.127 / 8, rel=0.01)


def test_what_day_49s_llama_has_not_is_refused(tmp_path, rng):
    with pytest.raises(GGUFError, match="has biases or heads"):
        qlora.open_quantised(open_made(tmp_path, rng, biases=True)[0])


def test_damaged_weights_are_refused(tmp_path, rng):
    pretrained, _ = open_made(tmp_path, rng)
    data = bytearray((tmp_path / "made.gguf").read_bytes())
    tensor = pretrained.file.tensors["blk.1.ffn_up.weight"]
    place = data.find(pretrained.file.raw("blk.1.ffn_up.weight").tobytes()[:64])
    assert place > 0 and tensor.count
    data[place:place + 4] = struct.pack("<f", math.inf)
    (tmp_path / "bad.gguf").write_bytes(bytes(data))
    with pytest.raises(GGUFError, match="blocks.1.up.w holds weights that are not finite"):
        qlora.open_quantised(load(tmp_path / "bad.gguf"))


# Lean modules

@pytest.mark.parametrize("targets", [None, ("qkv",)])
@pytest.mark.parametrize("K", [1, 2, 4])
def test_lean_models_compute_the_same_bits(rng, targets, K):
    config = LlamaConfig(V=29, T=8, C=16, L=2, H=4, K=K, F=32)
    model, adapters = adapted(rng, config=config, targets=targets)
    before = results(model)
    names = sorted(model.state_dict())
    assert lean_file.lean(model) == 4 and lean_file.lean(model) == 0
    after = results(model)
    assert sorted(model.state_dict()) == names
    assert all((x == y).all() for x, y in zip(before, after, strict=True))


def results(model):
    loss = loss_of(model, IDS, NEXT)
    loss.backward()
    found = [loss.data, *(p.grad for p in model.named_parameters().values())]
    model.zero_grad()
    return found


@pytest.mark.parametrize("H, K", [(4, 2), (2, 1), (4, 1)])
def test_what_is_kept_is_what_the_note_counts(rng, H, K):
    """days/day54/costs.py against the tape, on kernels, in a window long enough for flash.

    The tape also counts the frozen gains, 2·L + 1 times C numbers for all T tokens together.
    """
    T, rank = 128, 2
    config = LlamaConfig(V=29, T=T, C=32, L=2, H=H, K=K, F=48)
    ids = rng.integers(0, 29, (1, T + 1))
    model, found = Llama(config, rng), []
    with fast():
        found.append(saved_bytes(model.loss(ids[:, :-1], ids[:, 1:])))
        add_lora(model, rank, 4, rng)
        found.append(saved_bytes(loss_of(model, ids[:, :-1], ids[:, 1:])))
        lean_file.lean(model)
        found.append(saved_bytes(loss_of(model, ids[:, :-1], ids[:, 1:])))
    for way, size in zip(costs.WAYS, found):
        assert size / 4 / T == pytest.approx(costs.kept(config, way, rank, T), abs=2), way
    assert costs.trained(config, rank) == model.count_parameters()


def test_the_account_of_smollm2():
    config = LlamaConfig()
    assert costs.trained(config, 8) == 2_442_240
    full, lora_, lean_, qlora_ = (costs.account(config, way, 8, 1, 256) for way in costs.WAYS)
    assert full["weights"] == 4 * 134_515_008 and full["trained"] == 12 * 134_515_008
    assert lora_["trained"] == lean_["trained"] == qlora_["trained"] == 12 * 2_442_240
    assert lora_["weights"] == 4 * (134_515_008 + 2_442_240)
    matrices = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 576 * 1536)
    assert lora_["weights"] - qlora_["weights"] == pytest.approx(matrices * (4 - 4.127 / 8),
                                                                    rel=1e-5)
    assert lora_["kept"] - lean_["kept"] == 4 * 256 * 30 * (1536 + 1728 - 960)
    assert full["all"] == sum(full[part] for part in ("weights", "trained", "kept"))
    head = 49152 * 576
    assert costs.flops(config, "everything", 8) == 6 * (matrices + head)
    assert costs.flops(config, "LoRA", 8) == 4 * (matrices + head) + 6 * 2_442_240
    assert costs.account(config, "LoRA", 8, 4, 256)["kept"] == 4 * lora_["kept"]


# Twins

CASES = [((3, 4), (6,), 2), ((2, 5, 64), (32, 16, 16), 8), ((300, 48), (96,), 3), ((1, 4), (1,), 1),
         ((7, 9), (5, 4), 7),         # four of the rank, and three that are left
         ((70, 16), (300, 20), 8)]    # more rows and columns than stay in the cache together


@pytest.mark.parametrize("shape, widths, r", CASES)
@pytest.mark.parametrize("biased", [False, True])
def test_the_twin_of_lora_equals_the_reference(rng, shape, widths, r, biased):
    draw = lambda *s: rng.standard_normal(s).astype(np.float32)
    cin, cout = shape[-1], sum(widths)
    x, a, b, w = draw(*shape), draw(cin, len(widths) * r), draw(r, cout), draw(cin, cout)
    bias, options = draw(cout) if biased else None, {"scale": 0.7, "widths": widths}
    dout = draw(*shape[:-1], cout)
    pair = twins()[lora.lora]
    y, saved = lowrank.lora(*(v.astype(np.float64) if v is not None else v
                              for v in (x, a, b, w, bias)), **options)
    mine, kept = pair[0](x, a, b, w, bias, **options)
    assert kept[0] is kernels.lora_vjp and mine.dtype == np.float32
    close = lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-4 * np.abs(q).max())
    close(mine, y)
    for p, q in zip(pair[1](dout, *kept), lowrank.lora_vjp(dout.astype(np.float64), *saved)):
        assert (p is None) == (q is None)
        if p is not None:
            close(p, q)
            assert p.dtype == np.float32


@pytest.mark.parametrize("H, K, D", [(6, 2, 4), (9, 3, 64), (4, 1, 6), (2, 2, 8)])
def test_the_twin_of_spread_equals_day_49s(rng, H, K, D):
    x = rng.standard_normal((2, 5, (H + 2 * K) * D)).astype(np.float32)
    dout = rng.standard_normal((2, 5, 3 * H * D)).astype(np.float32)
    out, saved = grouped.spread(x, H, K)
    pair = twins()[spread]
    mine, kept = pair[0](x, H=H, K=K)
    assert (mine == out).all() and (kept[0] is grouped_kernels.spread_vjp) == (H != K)
    (dx,), (reference,) = pair[1](dout, *kept), grouped.spread_vjp(dout, *saved)
    np.testing.assert_allclose(dx, reference, rtol=1e-5, atol=1e-6)
    assert mine.dtype == dx.dtype == np.float32
    for wrong in ({"H": 4, "K": 3}, {"H": 1, "K": 0}, {"H": H, "K": K}):
        with pytest.raises(ValueError, match="heads"):
            pair[0](x[..., :-1], **wrong)


def test_many_tokens_have_larger_chunks_in_the_head(rng):
    table, seen = rng.standard_normal((7, 4)), []

    def softmax(logits, ids, factor):
        seen.append(len(logits))
        return chunked.softmax_grad(logits, ids, factor)

    for n, chunks in ((200, [128, 72]), (1023, [128] * 7 + [127]), (1024, [512, 512])):
        chunked.head_loss(rng.standard_normal((n, 4)), table, rng.integers(0, 7, n),
                          softmax=softmax)
        assert seen == chunks
        seen.clear()


def test_the_loss_of_a_model_leaves_the_chunk_to_the_head(monkeypatch, rng):
    seen = []
    monkeypatch.setattr(lora, "head_loss", lambda *_, chunk, **__: seen.append(chunk))
    loss_of(adapted(rng)[0], IDS, NEXT)
    assert seen == [None]


def test_twins_of_frozen_layers_head_and_nf4_equal_the_references(rng):
    draw = lambda *s: rng.standard_normal(s).astype(np.float32)
    x, w, table = draw(2, 3, 8), draw(8, 5), draw(11, 8)
    pair = twins()[lora.frozen_linear]
    y, saved = pair[0](x, w)
    assert saved[0] is kernels.frozen_linear_vjp and (y == lowrank.frozen_linear(x, w)[0]).all()
    assert (pair[1](y, *saved)[0] == lowrank.frozen_linear_vjp(y, w)[0]).all()
    biased = pair[0](x, w, draw(5))
    assert biased[1][0] is lowrank.frozen_linear_vjp
    targets = np.array([[1, -100, 10], [0, 4, 7]])
    head = twins()[lora.head_loss]
    loss, kept = head[0](x, table, targets, chunk=2)
    expected, reference = chunked.head_loss(x.astype(np.float64), table, targets)
    assert loss == pytest.approx(expected, rel=1e-5) and loss.dtype == np.float32
    assert head[1](np.float32(2), *kept)[0] == pytest.approx(2 * reference[0], abs=1e-6)
    q = nf4.quantise(draw(7, 192))
    plain = q.dense()
    with lower(twins()):
        assert (q.dense() == plain).all() and q.dense() is not plain
    scales = nf4.unquantise_scales(q.scales, q.groups, q.mean)
    assert (nf4_kernel.expand(q.codes, scales, nf4.levels()) == plain.reshape(-1)).all()


def test_fast_training_equals_slow(rng):
    config = LlamaConfig(V=29, T=8, C=64, L=2, H=2, K=1, F=64)
    runs = []
    for quick in (False, True):
        model = Llama(config, np.random.default_rng(0))
        qlora.quantise_base(model)
        add_lora(model, 4, 8, np.random.default_rng(1))
        lean_file.lean(model)
        if quick:
            with fast():
                runs.append(train(model, steps=5))
        else:
            runs.append(train(model, steps=5))
    assert runs[0] == pytest.approx(runs[1], rel=1e-4) and runs[0][-1] < runs[0][0]


@pytest.mark.parametrize("bad", ["a", "b", "widths", "w", "bias", "x"])
def test_the_twin_steps_aside_where_the_reference_complains(rng, bad):
    z = lambda *s: np.zeros(s, np.float32)
    given = {"x": z(2, 3), "a": z(3, 2), "b": z(2, 4), "w": z(3, 4), "bias": z(4),
             "widths": (4,)}
    given |= {"a": {"a": z(3, 3)}, "b": {"b": z(2, 5)}, "widths": {"widths": (3,)},
              "w": {"w": z(3)}, "bias": {"bias": z(3)}, "x": {"x": z(2, 4)}}[bad]
    x, a, b, w, bias, widths = given.values()
    assert kernels.lora(x, a, b, w, bias, scale=1, widths=widths) is NotImplemented
    with pytest.raises(ValueError, match=r"\("):
        lora.lora(x, a, b, w, bias, scale=1, widths=widths)
    with fast(), pytest.raises(ValueError, match=r"\("):
        lora.lora(x, a, b, w, bias, scale=1, widths=widths)


# Files of peft's

@pytest.mark.parametrize("rslora, targets", [(False, None), (True, ("qkv", "down"))])
def test_adapters_survive_their_files(tmp_path, rng, rslora, targets):
    model, adapters = adapted(rng, exact=False, rslora=rslora, targets=targets)
    base = Llama(SMALL, np.random.default_rng(54))
    expected = model(IDS).data
    peft_files.save_adapters(tmp_path / "new" / "folder", model, "ours")
    again = peft_files.load_adapters(str(tmp_path / "new" / "folder"), base)
    assert (base(IDS).data == expected).all() and set(again) == set(adapters)
    for layer in again.values():
        assert layer.a.data.flags.c_contiguous and layer.b.data.flags.c_contiguous
        assert (layer.rank, layer.alpha, layer.rslora) == (3, 6.0, rslora)
    config = json.loads((tmp_path / "new" / "folder" / "adapter_config.json").read_text())
    assert config["r"] == 3 and config["lora_alpha"] == 6 and config["use_rslora"] == rslora
    assert config["base_model_name_or_path"] == "ours" and config["peft_type"] == "LORA"
    every = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == (every if targets is None else
                                        ["down_proj", "k_proj", "q_proj", "v_proj"])


def test_the_files_hold_the_names_and_shapes_that_peft_wants(tmp_path, rng):
    model, adapters = adapted(rng, exact=False)
    peft_files.save_adapters(str(tmp_path), model)
    file = peft_files.SafeTensors(tmp_path / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.self_attn."
    assert len(file) == 2 * 7 * 2
    qkv = adapters["blocks.1.mix.inner.qkv"]
    assert (file[stem + "k_proj.lora_A.weight"] == qkv.a.data[:, 3:6].T).all()
    assert (file[stem + "k_proj.lora_B.weight"] == qkv.b.data[:, 16:24].T).all()
    assert file[stem + "q_proj.lora_B.weight"].shape == (16, 3)


def test_odd_folders_are_refused(tmp_path, rng):
    model, adapters = adapted(rng, exact=False)
    peft_files.save_adapters(tmp_path, model)
    path = tmp_path / "adapter_config.json"
    good = json.loads(path.read_text())
    for change, reason in (({"use_dora": True}, "use_dora"), ({"bias": "all"}, "biases"),
                           ({"peft_type": "IA3"}, "IA3"), ({"rank_pattern": {"q": 1}}, "rank_pat"),
                           ({"r": 5}, "wanted")):
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=reason):
            peft_files.load_adapters(tmp_path, Llama(SMALL, rng))
    path.write_text(json.dumps(good))
    smaller = LlamaConfig(V=29, T=8, C=16, L=1, H=4, K=2, F=32, base=100.0)
    with pytest.raises(ValueError, match="stand on one side only"):
        peft_files.load_adapters(tmp_path, Llama(smaller, rng))
    with pytest.raises(ValueError, match="adapters of 0 kinds"):
        peft_files.save_adapters(tmp_path, Llama(SMALL, rng))
    next(iter(adapters.values())).alpha = 7
    with pytest.raises(ValueError, match="adapters of 2 kinds"):
        peft_files.save_adapters(tmp_path, model)
    gpt, _ = adapted(rng, kind=GPT, config=GPTConfig(V=29, T=8, C=12, L=1, H=3), exact=False)
    with pytest.raises(ValueError, match="no layer of a Llama"):
        peft_files.save_adapters(tmp_path, Wrapped(gpt))


class Wrapped(Module):
    def __init__(self, model):
        self.model = model


# Edges

def test_bad_arguments_are_refused_before_anything_changes(rng):
    model = Llama(SMALL, rng)
    with pytest.raises(ValueError, match="no linear layer is called 'out'; there are"):
        add_lora(model, 2, 4, rng, ("qkv", "out"))
    assert dict(model.named(Linear)) and model.named_parameters()
    add_lora(model, 2, 4, rng, ("qkv",))
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model, 2, 4, rng)
    base = FrozenLinear(np.zeros((4, 6)))
    for rank, alpha in ((0, 1), (2, 0), (2, math.inf), (2, -1)):
        with pytest.raises(ValueError, match="must be at least 1, and alpha"):
            LoRALinear(base, rank, alpha, rng)
    for widths in ((3, 2), (7,), (6, 0)):
        with pytest.raises(ValueError, match="do not add up to 6"):
            LoRALinear(base, 1, 1, rng, widths)


def test_shapes_that_do_not_fit_are_told(rng):
    z = np.zeros
    with pytest.raises(ValueError, match=r"x \(2, 3\) does not fit W \(4, 5\)"):
        lowrank.frozen_linear(z((2, 3)), z((4, 5)))
    with pytest.raises(ValueError, match=r"bias \(4,\) does not fit W \(3, 5\)"):
        lowrank.frozen_linear(z((2, 3)), z((3, 5)), z(4))
    with pytest.raises(ValueError, match=r"hidden \(2, 3\) does not fit the table \(5, 4\)"):
        chunked.head_loss(z((2, 3)), z((5, 4)), z(2, int))
    with pytest.raises(ValueError, match=r"targets \(3,\) int64 for hidden \(2, 3\)"):
        chunked.head_loss(z((2, 3)), z((5, 3)), z(3, int))
    with pytest.raises(ValueError, match="float64 for hidden"):
        chunked.head_loss(z((2, 3)), z((5, 3)), z(2))
    for bad in (-1, 5):
        with pytest.raises(ValueError, match=r"wanted ids of 0 … 4, or -100"):
            chunked.head_loss(z((2, 3)), z((5, 3)), np.array([bad, 1]))
    with pytest.raises(ValueError, match="at least 1 token, not 0"):
        chunked.head_loss(z((2, 3)), z((5, 3)), z(2, int), chunk=0)
    with pytest.raises(ValueError, match="keeps nothing to go back with"):
        chunked.head_loss_vjp(np.array(1.0), None)
    for shape in ((63,), (0,), (3, 20)):
        with pytest.raises(ValueError, match="positive multiple of 64"):
            nf4.quantise(z(shape))
    with pytest.raises(ValueError, match="infinity or NaN"):
        nf4.quantise(np.full(64, np.nan))


def test_freezing_twice_and_tiny_batches_are_fine(rng):
    model, adapters = adapted(rng, rank=1)
    assert loss_of(model, IDS[:1, :1], NEXT[:1, :1]).requires_grad
    kept = merge(model)
    freeze(model)
    assert not model.named_parameters()
    unmerge(model, kept)
    assert len(model.named_parameters()) == 2 * len(adapters)


# The run

def test_nf4_beats_even_levels_and_double_quantisation_costs_next_to_nothing(rng):
    rows = {name: row for name, *row in errors.errors([rng.standard_normal((256, 64))])}
    even, nf, double, affine, five = rows.values()
    assert nf[1] < 0.85 * even[1] and abs(double[1] / nf[1] - 1) < 0.01
    assert double[0] == pytest.approx(4.127, abs=1e-3)
    assert five[1] < affine[1] < even[1]


def test_a_frozen_layers_backward_is_timed_without_dw(rng):
    both, less = errors.backward_times(rng, 400, 300, 300, 9)
    assert 0 < less < both


def test_a_sum_is_right_when_every_token_of_it_is(rng):
    """The share is what greedy decoding gets right: checked by decoding token by token."""
    source = sums.Source(True, print)
    model = source.frozen(False)
    _, examples = sums.questions(source.tokenizer, sums.Plan(1, tested=6), 0)
    loss, _ = sums.score(model, examples)
    nats = []
    for ids, mask in examples:
        logits = model(np.asarray(ids[:-1])[None]).data[0].astype(np.float64)
        asked = mask[1:]
        rows = logits[asked] - np.log(np.exp(logits[asked]).sum(axis=1, keepdims=True))
        nats += (-rows[np.arange(len(rows)), ids[1:][asked]]).tolist()
    assert loss == pytest.approx(np.mean(nats), rel=1e-5)
    for n in (0, 2, 6):
        assert sums.score(Knows(examples, n, source.tokenizer.vocab_size), examples)[1] == n / 6
    one_off = Knows(examples, 6, source.tokenizer.vocab_size, last=False)
    assert sums.score(one_off, examples)[1] == 0


class Knows:
    """Expects what comes next in the first n of the examples, and nothing right in the others;
    without `last` it misses the last token of each."""

    def __init__(self, examples, n, V, last=True):
        pairs = [sums.shifted(*one) for one in examples]
        _, self.next = sums.stack(pairs, max(len(x) for x, _ in pairs))
        self.next[n:] = 0
        if not last:
            for row in self.next:
                row[np.flatnonzero(row >= 0)[-1]] = 0
        self.V = V

    def hidden(self, inputs):
        return Tensor(np.eye(self.V)[self.next])

    def logits(self, hidden):
        return hidden


def test_shares_of_singular_values():
    assert study.share(np.array([3.0, 1, 0, 0]))[0] == 0.9
    assert study.share(np.array([2.0, 2, 2, 2]))[:3] == [0.25, 1, 1]
    assert study.share(np.array([3.0, 1.1, 0, 0]))[-1] == 2
    assert study.share(np.ones(10))[-1] == 9


@pytest.mark.parametrize("name, trained", [("everything", 35_072), ("the matrices", 24_576),
                                           ("rank 4, α/√r", 4608), ("rank 64, α/r", 73_728)])
def test_what_the_study_trains(name, trained):
    one = study.Study.__new__(study.Study)
    one.plan, one.reader = study.Plan.tiny(), study.trained(True)
    model = one.model(name, 0)
    assert model.count_parameters() == trained
    scales = {layer.scale for _, layer in model.named(LoRALinear)}
    assert scales == {"rank 4, α/√r": {2.0}, "rank 64, α/r": {0.125}}.get(name, set())


def test_the_headline_of_the_run():
    """Both bases learn, both train the same numbers, 4 bits take an eighth, and QLoRA is small."""
    result = measure(True, 0)
    plain, four = result.runs
    for run in result.runs:
        assert run["after"][0] < run["before"][0] and len(run["losses"]) == 4
        assert run["trained"] == plain["trained"]
    assert four["base_bytes"] < 0.6 * plain["base_bytes"]
    ways = {row[0]: row for row in result.account}
    assert ways["QLoRA, lean"][5]["all"] < 0.2 * ways["everything"][5]["all"]
