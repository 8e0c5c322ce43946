"""Day 49 · Grouped queries and Llama: by hand, against day 29, brute force, and both decoders."""

import dataclasses
import json
import math
import statistics

import numpy as np
import pytest

from days.day49 import decoding, pooling, small
from days.day49.costs import ladder
from days.day49.run import measure, shares
from days.harness import ROOT, UsageError
from experiments import grouped as study
from llm.data.batches import random_windows
from llm.functions import grouped
from llm.functions.heads import NO_RULE, multi_head
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.decode import count_flops as decode_flops
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block
from llm.layers.gated import RMSNorm, SwiGLU
from llm.layers.grouped import GroupedAttention
from llm.layers.rotary import Rotary
from llm.models import gpt, llama
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig, count_flops, count_parameters
from llm.train.adam import AdamW
from llm.train.fast_gated import fast
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.weights.pool import pool_heads

SMALL = LlamaConfig(V=11, T=6, C=8, L=2, H=4, K=2, F=10, base=100.0)
GROUPS = [(1, 1), (2, 1), (4, 4), (4, 2), (4, 1), (6, 3), (6, 2)]


@pytest.fixture
def rng():
    return np.random.default_rng(49)


def exact(model, rng=None, std=0.3):
    """The model in float64; with an rng, with weights large enough that every part matters."""
    for p in model.named_parameters().values():
        p.data = p.data.astype(np.float64)
        if rng is not None:
            p.data += std * rng.standard_normal(p.shape)
    return model


def brute_force(qkv, H, K, rule=None):
    """Causal attention of one text (T, (H + 2K)·D), head by head and token by token."""
    T, D = len(qkv), qkv.shape[1] // (H + 2 * K)
    head = lambda i: qkv[:, i * D:(i + 1) * D]
    out = np.empty((T, H * D))
    for h in range(H):
        q, k, v = head(h), head(H + h // (H // K)), head(H + K + h // (H // K))
        if rule:
            q, k = rule.turn(q), rule.turn(k)
        for t in range(T):
            w = np.exp(k[:t + 1] @ q[t] / math.sqrt(D))
            out[t, h * D:(h + 1) * D] = w @ v[:t + 1] / w.sum()
    return out


def test_the_example_by_hand_heads_are_written_twice():
    """H = 4, K = 2, D = 1: four queries, two keys, two values."""
    qkv = np.array([[[1.0, 2, 3, 4, 5, 6, 7, 8]]])
    out, saved = grouped.spread(qkv, 4, 2)
    assert out.tolist() == [[[1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8]]]
    dout = np.array([[[1.0, 1, 1, 1, 10, 20, 30, 40, 1, 2, 3, 4]]])
    assert grouped.spread_vjp(dout, *saved)[0].tolist() == [[[1, 1, 1, 1, 30, 70, 3, 7]]]


def test_the_example_by_hand_attention_of_two_queries_on_one_key_head():
    """D = 1, H = 2, K = 1; keys 0 and ln 3, values 4 and 8; queries 1 and −1 at the second token.

    Weights 1/4, 3/4 give 7; weights 3/4, 1/4 give 5.
    """
    qkv = np.array([[[0, 0, 0, 4], [1, -1, math.log(3), 8]]])
    out, _ = multi_head(grouped.spread(qkv, 2, 1)[0], 2)
    assert out[0] == pytest.approx(np.array([[4, 4], [7, 5]]))


def test_the_example_by_hand_pooling():
    """H = K = 2, D = 2, one input channel: keys (1, 3) and (5, 7) become (3, 5)."""
    state = {"qkv.w": np.array([[0.0, 0, 0, 0, 1, 3, 5, 7, 0, 2, 4, 4]])}
    assert pool_heads(state, 2, 2, 1)["qkv.w"].tolist() == [[0, 0, 0, 0, 3, 5, 2, 3]]


def test_the_example_by_hand_costs():
    """SmolLM2-135M: 11,520 numbers a token where nine heads of keys would be 34,560."""
    config = LlamaConfig()
    assert count_parameters(config) == 134_515_008
    arch = architecture(config)
    assert cache_bytes(arch, 1, 1) == 11_520
    assert cache_bytes(architecture(dataclasses.replace(config, K=9)), 1, 1) == 34_560
    assert count_parameters(dataclasses.replace(config, K=9)) - 134_515_008 == 2 * 30 * 6 * 64 * 576


def architecture(config):
    """What `for_inference` says, of a model that is not built."""
    tiny = Llama(dataclasses.replace(config, V=1, L=1, T=1, F=1), np.random.default_rng(0))
    return dataclasses.replace(tiny.for_inference()[0], V=config.V, L=config.L, T=config.T,
                               F=config.F)


@pytest.mark.parametrize("H, K", GROUPS)
def test_spread_equals_repeat_and_its_gradient_the_groups_sums(rng, H, K):
    for B, T, D in ((1, 1, 1), (2, 3, 4), (3, 1, 2)):
        qkv = rng.standard_normal((B, T, (H + 2 * K) * D))
        heads = qkv.reshape(B, T, H + 2 * K, D)
        expected = np.concatenate([heads[:, :, :H], np.repeat(heads[:, :, H:], H // K, axis=2)],
                                  axis=2).reshape(B, T, 3 * H * D)
        out, saved = grouped.spread(qkv, H, K)
        assert (out == expected).all() and out.dtype == np.float64
        assert (out is qkv) == (H == K)                        # no copy where none is needed
        check_pair(lambda x: grouped.spread(x, H, K), grouped.spread_vjp, qkv, rng=rng)
        assert saved == (H, K)


@pytest.mark.parametrize("H, K", GROUPS)
@pytest.mark.parametrize("rotary", [False, True])
def test_grouped_attention_equals_brute_force(rng, H, K, rotary):
    """Every K, and with it multi-query attention, which repeats one key head."""
    T, D = 5, 4
    rule = Rotary(D, T, base=50.0) if rotary else None
    qkv = rng.standard_normal((2, T, (H + 2 * K) * D))
    out, _ = multi_head(grouped.spread(qkv, H, K)[0], H, rule or NO_RULE)
    for b in range(2):
        assert out[b] == pytest.approx(brute_force(qkv[b], H, K, rule), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("H, K", [(4, 2), (4, 1), (6, 2)])
def test_the_module_equals_brute_force(rng, H, K):
    C, T = 12 if H == 6 else 8, 5
    rule = Rotary(C // H, T)
    layer = exact(GroupedAttention(C, H, K, rng, rule))
    x = rng.standard_normal((2, T, C))
    out = layer(Tensor(x)).data
    for b in range(2):
        expected = brute_force(x[b] @ layer.qkv.w.data, H, K, rule) @ layer.project.w.data
        assert out[b] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("rotary", [False, True])
def test_with_as_many_groups_as_heads_it_is_day_29s_attention(rng, rotary):
    C, H, T = 12, 3, 5
    rule = Rotary(C // H, T) if rotary else NO_RULE
    ours = exact(GroupedAttention(C, H, H, rng, rule), rng)
    theirs = exact(MultiHeadAttention(C, H, rng, rule))        # with biases, which are 0
    theirs.qkv.w.data, theirs.project.w.data = ours.qkv.w.data, ours.project.w.data
    inputs = [Tensor(np.random.default_rng(1).standard_normal((2, T, C)), requires_grad=True)
              for _ in range(2)]
    dout = rng.standard_normal((2, T, C))
    for layer, x in zip((ours, theirs), inputs, strict=True):
        layer(x).backward(dout)
    assert (ours(inputs[0]).data == theirs(inputs[1]).data).all()
    assert (inputs[0].grad == inputs[1].grad).all()
    for name in ("qkv", "project"):
        assert (ours.get(name).w.grad == theirs.get(name).w.grad).all(), name


@pytest.mark.parametrize("H, K", [(4, 2), (4, 1)])
def test_shared_heads_have_the_gradient_of_tied_copies(rng, H, K):
    """An MHA whose key heads are equal within groups: the sum of their gradients is ours."""
    C, T, G = 8, 4, H // K
    D = C // H
    ours = exact(GroupedAttention(C, H, K, rng), rng)
    theirs = exact(MultiHeadAttention(C, H, rng))
    heads = ours.qkv.w.data.reshape(C, H + 2 * K, D)
    theirs.qkv.w.data = np.concatenate([heads[:, :H], np.repeat(heads[:, H:], G, axis=1)],
                                       axis=1).reshape(C, 3 * C)
    theirs.project.w.data = ours.project.w.data
    x, dout = Tensor(rng.standard_normal((2, T, C))), rng.standard_normal((2, T, C))
    for layer in (ours, theirs):
        layer(x).backward(dout)
    mine = ours.qkv.w.grad.reshape(C, H + 2 * K, D)
    copies = theirs.qkv.w.grad.reshape(C, 3 * H, D)
    assert mine[:, :H] == pytest.approx(copies[:, :H])
    assert mine[:, H:] == pytest.approx(copies[:, H:].reshape(C, 2 * K, G, D).sum(axis=2))


@pytest.mark.parametrize("K, tied", [(4, True), (2, True), (1, False)])
def test_all_gradients_are_those_of_the_loss(rng, K, tied):
    config = LlamaConfig(V=5, T=3, C=8, L=1, H=4, K=K, F=3, base=30.0, tied=tied)
    model = exact(Llama(config, rng), rng)
    ids, targets = rng.integers(5, size=(2, 3)), np.array([[1, -100, 4], [0, 2, 2]])
    model.loss(ids, targets).backward()
    for name, p in model.named_parameters().items():
        numeric = numerical_gradient(lambda _: model.loss(ids, targets).data, p.data)
        assert p.grad == pytest.approx(numeric, rel=1e-6, abs=1e-8), name


def test_the_parameters_counted_by_hand(rng):
    """V = 11, C = 8, F = 10, D = 2: qkv 8 × (4 + 2·2)·2."""
    sizes = {name: p.data.size for name, p in
             Llama(dataclasses.replace(SMALL, L=1, tied=False), rng).named_parameters().items()}
    block = "blocks.0."
    assert sizes == {
        "embed.table": 88, block + "mix.norm.gain": 8, block + "mix.inner.qkv.w": 128,
        block + "mix.inner.project.w": 64, block + "think.norm.gain": 8,
        block + "think.inner.gate.w": 80, block + "think.inner.up.w": 80,
        block + "think.inner.down.w": 80, "norm.gain": 8, "head.w": 88}


@pytest.mark.parametrize("config", [
    SMALL, dataclasses.replace(SMALL, tied=False), dataclasses.replace(SMALL, K=1, L=3, F=7),
    LlamaConfig(V=1, T=1, C=2, L=1, H=1, K=1, F=1), LlamaConfig(V=9, T=3, C=24, L=1, H=6, K=3)])
def test_the_formulas_count_what_is_built(config, rng):
    model = Llama(config, rng)
    arch, weights = model.for_inference()
    assert model.count_parameters() == count_parameters(config)
    assert count_flops(config) == decode_flops(arch, config.T - 1, 1)
    cache = KVCache(arch)
    assert cache.bytes() == cache_bytes(arch, config.T) == 8 * (
        config.L * config.T * config.K * config.C // config.H)
    names = sum(array.size for array in weights.values())
    assert names == count_parameters(config)


def test_the_defaults_are_smollm2_135m():
    assert dataclasses.astuple(LlamaConfig()) == (49152, 8192, 576, 30, 9, 3, 1536, 1e-5, 1e5, True)
    assert architecture(LlamaConfig()).D == 64


def test_the_start(rng):
    """std 0.02 for the matrices, 0.02/√(2L) for those that write to the stream, gains of 1."""
    config = LlamaConfig(V=300, T=4, C=96, L=2, H=4, K=2, F=256, eps=.25, base=77.0, tied=False)
    model = Llama(config, rng)
    for name, p in model.named_parameters().items():
        assert p.dtype == np.float32
        if name.endswith("gain"):
            assert (p.data == 1).all()
        else:
            out = name.endswith(("project.w", "down.w"))
            assert p.data.std() == pytest.approx(.01 if out else .02, rel=.03), name
    block = llama.make_block(config, rng, Rotary(24, 4), std=.1)
    assert block.mix.inner.qkv.w.data.std() == pytest.approx(.1, rel=.03)
    assert block.think.inner.gate.w.data.std() == pytest.approx(.1, rel=.03)
    assert block.mix.inner.project.w.data.std() == pytest.approx(.05, rel=.03)
    assert block.think.inner.down.w.data.std() == pytest.approx(.05, rel=.03)
    norms = [model.norm, *(part.norm for b in model.blocks for part in (b.mix, b.think))]
    assert [norm.eps for norm in norms] == [.25] * 5
    rules = {id(b.mix.inner.rule) for b in model.blocks}
    assert len(rules) == 1                                     # the angles are made once
    rule = model.blocks[0].mix.inner.rule
    assert (rule.D, rule.T_max) == (24, 4) and rule.exact[0][1, 1] == pytest.approx(
        math.cos(77 ** (-2 / 24)))
    plain = GroupedAttention(100, 2, 1, rng)
    assert plain.qkv.w.data.std() == pytest.approx(.1, rel=.03) and plain.rule is NO_RULE
    assert plain.qkv.w.shape == (100, 200) and plain.qkv.b is None and plain.project.b is None


def test_changing_a_token_leaves_earlier_logits_bit_identical(rng):
    model = Llama(SMALL, rng)
    ids = rng.integers(11, size=(2, 6))
    before = model(ids).data
    for t in range(6):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = model(changed).data
        assert (after[:, :t] == before[:, :t]).all()
        assert (after[:, t] != before[:, t]).any()


@pytest.mark.parametrize("K", [4, 2, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_decode_and_engine_give_the_logits_of_the_full_forward(rng, K, tied):
    config = dataclasses.replace(SMALL, K=K, T=12, eps=.01, tied=tied)
    model = Llama(config, rng)
    for p in model.named_parameters().values():
        p.data += (.3 * rng.standard_normal(p.shape)).astype(np.float32)
    ids = rng.integers(11, size=12)
    full = model(ids[None]).data[0]
    arch, weights = model.for_inference()
    assert (arch.norm, arch.eps, arch.rotary, arch.feed_forward) == ("rms", .01, 100.0, "swiglu")
    assert all(np.shares_memory(weights[llama.inference_name(name)], array)
               for name, array in model.state_dict().items())
    largest = np.abs(full).max()
    cache = KVCache(arch)
    found = np.concatenate([decode(arch, weights, part, cache) for part in np.split(ids, [5, 6])])
    assert np.abs(found - full).max() < 1e-5 * largest
    engine = Engine(arch, weights)
    for t in range(12):
        assert np.abs(engine.step(int(ids[t])) - full[t]).max() < 1e-5 * largest
    assert ("head" in weights) != tied


def test_wrong_weights_are_refused_for_inference(rng):
    model = Llama(SMALL, rng)
    model.replace("blocks.0.mix.inner", GroupedAttention(8, 4, 1, rng))
    with pytest.raises(ValueError, match=r"blocks.0.qkv.w is \(8, 12\).*\(8, 16\)"):
        model.for_inference()


def test_the_state_round_trips_and_another_k_does_not_fit(rng):
    model, other = Llama(SMALL, rng), Llama(SMALL, rng)
    other.load_state_dict(model.state_dict())
    ids = rng.integers(11, size=(1, 6))
    assert (model(ids).data == other(ids).data).all()
    with pytest.raises(ValueError, match="qkv"):
        Llama(dataclasses.replace(SMALL, K=1), rng).load_state_dict(model.state_dict())


def test_other_blocks_come_in_by_an_argument(rng):
    def block(config, rng, rule):
        return Block(RMSNorm(config.C), MultiHeadAttention(config.C, config.H, rng, rule),
                     RMSNorm(config.C), SwiGLU(config.C, 3, rng))

    assert isinstance(Llama(SMALL, rng, block).blocks[1].mix.inner, MultiHeadAttention)


def test_generate_continues_any_text(rng):
    model = Llama(SMALL, rng)
    ids = list(model.generate([1, 2, 3, 4, 5, 6, 7, 8], 5, rng))
    assert len(ids) == 5 and all(0 <= i < 11 for i in ids)
    with pytest.raises(ValueError, match="nothing to continue"):
        next(model.generate([], 1, rng))
    greedy = next(model.generate([3], 1, rng, temperature=0))
    assert greedy == model(np.array([[3]])).data[0, -1].argmax()


def train(config, kernels, steps=20):
    """The losses of a few steps on repeated text, and the weights at the end."""
    rng = np.random.default_rng(3)
    model = Llama(config, rng)
    parameters = model.named_parameters()
    text = np.tile(np.arange(config.V), 40)
    run = lambda: fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
                      random_windows(text, 4, config.T, rng), AdamW(parameters),
                      WarmupCosine(1e-2, 3), steps=steps)
    if kernels:
        with fast():
            return run().losses, model
    return run().losses, model


@pytest.mark.parametrize("K", [4, 2, 1])
def test_it_trains_and_kernels_and_tape_reach_the_same_loss(K):
    config = LlamaConfig(V=11, T=16, C=16, L=2, H=4, K=K, F=24)
    slow, model = train(config, kernels=False)
    quick, _ = train(config, kernels=True)
    assert quick == pytest.approx(slow, abs=2e-4)
    assert slow[-1] < slow[0] - .5
    assert all(np.abs(p.data).max() > 0 for p in model.named_parameters().values())


def test_training_keeps_as_much_for_every_k(rng):
    """What is kept for the backward is the spread copy, 3·C numbers a token, whatever K is."""
    ids = rng.integers(11, size=(2, 6))
    kept = [saved_bytes(Llama(dataclasses.replace(SMALL, K=K), rng).loss(ids, ids))
            for K in (4, 2, 1)]
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize("H, K, to", [(4, 4, 2), (4, 4, 1), (6, 6, 3), (6, 3, 1), (8, 4, 2),
                                      (2, 1, 1), (1, 1, 1)])
def test_pooled_heads_are_the_means_of_neighbours(rng, H, K, to):
    C, D = 5, 2
    w, b = rng.standard_normal((C, (H + 2 * K) * D)), rng.standard_normal((H + 2 * K) * D)
    state = {"embed": w, "blocks.0.qkv.w": w.astype(np.float32), "blocks.1.mix.inner.qkv.b": b}
    pooled = pool_heads(state, H, K, to)
    assert list(pooled) == list(state) and pooled["embed"] is w
    for name, array in list(state.items())[1:]:
        heads = array.reshape(-1, H + 2 * K, D)
        found = pooled[name].reshape(-1, H + 2 * to, D)
        assert pooled[name].dtype == array.dtype and pooled[name].ndim == array.ndim
        assert (found[:, :H] == heads[:, :H]).all()
        for part, first in ((0, H), (1, H + K)):
            for g in range(to):
                group = heads[:, first + g * (K // to):first + (g + 1) * (K // to)]
                assert found[:, H + part * to + g] == pytest.approx(group.mean(axis=1), rel=1e-5)


def test_pooling_to_as_many_heads_is_the_identity(rng):
    model = Llama(dataclasses.replace(SMALL, K=4), rng)
    state = model.state_dict()
    pooled = pool_heads(state, 4, 4, 4)
    assert all((pooled[name] == array).all() for name, array in state.items())


def test_pooling_equal_heads_changes_no_logit(rng):
    """Where the heads of a group are equal, their mean is each of them."""
    shared = Llama(SMALL, rng)
    many = Llama(dataclasses.replace(SMALL, K=4), rng)
    state = {name: array.copy() for name, array in shared.state_dict().items()}
    for name, array in state.items():
        if name.endswith("qkv.w"):
            state[name] = grouped.spread(array[None], 4, 2)[0][0]
    many.load_state_dict(state)
    pooled = Llama(SMALL, rng)
    pooled.load_state_dict(pool_heads(many.state_dict(), 4, 4, 2))
    ids = rng.integers(11, size=(2, 6))
    for model in (many, pooled):
        assert model(ids).data == pytest.approx(shared(ids).data, rel=1e-5, abs=1e-7)


def test_other_ways_to_join_and_names_for_inference(rng):
    arch, weights = Llama(dataclasses.replace(SMALL, K=4), rng).for_inference()
    first = pool_heads(weights, 4, 4, 2, join=lambda heads: heads[..., 0, :])
    wide, narrow = weights["blocks.1.qkv.w"], first["blocks.1.qkv.w"]
    assert (narrow[:, 8:12] == wide[:, [8, 9, 12, 13]]).all()          # keys of heads 0 and 2
    cut = dataclasses.replace(arch, K=2)
    assert decode(cut, first, [1, 2, 3], KVCache(cut)).shape == (3, 11)


@pytest.mark.parametrize("H, K", [(4, 3), (4, 0), (4, 8), (0, 1), (3, 2), (-4, 2)])
def test_groups_of_unequal_size_are_refused(rng, H, K):
    message = f"{K} heads of keys and values do not divide {H} heads of queries"
    with pytest.raises(ValueError, match=message):
        grouped.spread(np.zeros((1, 1, 12)), H, K)
    with pytest.raises(ValueError, match=message):
        GroupedAttention(24, H, K, rng)


@pytest.mark.parametrize("shape", [(2, 16), (1, 1, 1, 16), (1, 3, 15), (1, 1, 7)])
def test_misaligned_shapes_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=r"\(.*\) with 4 heads of queries and 2 of keys.*8·D"):
        grouped.spread(np.zeros(shape), 4, 2)


def test_channels_that_heads_do_not_divide_are_refused(rng):
    with pytest.raises(ValueError, match="4 heads do not divide 10 channels"):
        GroupedAttention(10, 4, 2, rng)


@pytest.mark.parametrize("change, message", [
    ({"V": 0}, "V must be at least 1"), ({"T": 0}, "T must"), ({"C": 0}, "C must"),
    ({"L": 0}, "L must"), ({"H": 0}, "H must"), ({"K": 0}, "K must"), ({"F": 0}, "F must"),
    ({"K": 3}, "3 heads of keys and values do not divide 4"), ({"C": 12}, "even number"),
    ({"C": 10}, "4 heads of 10 channels"), ({"eps": 0}, "eps must be a positive"),
    ({"eps": math.nan}, "eps"), ({"base": -1.0}, "base must"), ({"base": math.inf}, "base")])
def test_configs_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize("shape", [(6,), (1, 7), (0, 3), (2, 0), (1, 1, 1)])
def test_ids_of_a_wrong_shape_are_refused(rng, shape):
    with pytest.raises(ValueError, match="pass the last 6"):
        Llama(SMALL, rng)(np.zeros(shape, int))
    with pytest.raises(ValueError, match="id 11"):
        Llama(SMALL, rng)(np.array([[11]]))


@pytest.mark.parametrize("H, K, to", [(4, 4, 3), (4, 4, 8), (4, 4, 0), (4, 3, 1), (0, 1, 1),
                                      (4, 0, 1)])
def test_pooling_to_a_number_that_does_not_divide_is_refused(H, K, to):
    with pytest.raises(ValueError, match=f"cannot pool {K} heads.*{H} of queries, to {to}"):
        pool_heads({"qkv.w": np.zeros((2, 24))}, H, K, to)


def test_pooling_finds_nothing_or_another_model():
    with pytest.raises(ValueError, match="nothing to pool.*'embed'"):
        pool_heads({"embed": np.zeros((2, 2))}, 4, 4, 2)
    with pytest.raises(ValueError, match=r"a.qkv.w \(2, 13\) does not hold 4 \+ 2·4"):
        pool_heads({"a.qkv.w": np.zeros((2, 13))}, 4, 4, 2)


def test_float32_stays_float32(rng):
    x = rng.standard_normal((1, 2, 8)).astype(np.float32)
    for H, K in ((4, 2), (2, 1)):
        out, saved = grouped.spread(x, H, K)
        assert out.dtype == np.float32
        assert grouped.spread_vjp(out, *saved)[0].dtype == np.float32
    assert Llama(SMALL, rng)(np.array([[1]])).dtype == np.float32


@pytest.mark.parametrize("H, K", GROUPS)
def test_the_module_takes_a_dtype_and_its_gradients_are_exact_in_float64(rng, H, K):
    """All of its parameters and its input, each against central differences."""
    module = GroupedAttention(4 * H, H, K, rng, Rotary(4, 5), dtype=np.float64)
    parameters = module.named_parameters()
    assert {p.dtype.name for p in parameters.values()} == {"float64"}
    same = GroupedAttention(4 * H, H, K, np.random.default_rng(3), std=.4, out_std=.2)
    wide = GroupedAttention(4 * H, H, K, np.random.default_rng(3), std=.4, out_std=.2,
                            dtype=np.float64)
    for name, p in same.named_parameters().items():
        assert p.dtype == np.float32
        assert (p.data == wide.named_parameters()[name].data.astype(np.float32)).all()
    x, weight = (rng.standard_normal((2, 5, 4 * H)) for _ in range(2))
    at = Tensor(x, True)
    (module(at) * Tensor(weight)).sum().backward()
    for p in (at, *parameters.values()):
        assert p.grad.dtype == np.float64
        assert p.grad == pytest.approx(numerical_gradient(
            lambda _: (module(at).data * weight).sum(), p.data), rel=1e-6, abs=1e-8)
    with pytest.raises(ValueError, match="linear of float32 .* and float64"):
        module(Tensor(x.astype(np.float32), True))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype, digits", [(np.float16, 2e-2), (np.float32, 1e-6),
                                           (np.float64, 1e-7)])
def test_a_dtype_reaches_every_part_of_a_llama(dtype, digits, tied):
    """As it does in a GPT: parameters, logits, loss and gradients; the same numbers, rounded."""
    config = dataclasses.replace(SMALL, tied=tied)
    usual, ours = Llama(config, np.random.default_rng(4)), Llama(
        config, np.random.default_rng(4), dtype=dtype)
    for name, p in usual.named_parameters().items():
        assert p.dtype == np.float32
        assert (ours.named_parameters()[name].data == p.data.astype(dtype)).all()
    ids = np.array([[1, 2, 3, 9]])
    losses = [model.loss(ids, ids) for model in (ours, usual)]
    losses[0].backward()
    assert ours(ids).dtype == losses[0].dtype == dtype
    assert all(p.grad.dtype == dtype and np.isfinite(p.grad).all()
               for p in ours.named_parameters().values())
    assert float(losses[0].data) == pytest.approx(float(losses[1].data), rel=digits)


def test_a_block_of_a_llama_takes_a_dtype(rng):
    block = llama.make_block(SMALL, rng, Rotary(2, SMALL.T), dtype=np.float64)
    assert {p.dtype.name for p in block.named_parameters().values()} == {"float64"}
    assert block(Tensor(rng.standard_normal((1, 3, SMALL.C)))).dtype == np.float64


@pytest.fixture(scope="module")
def result():
    return measure(fast=True, seed=0)


def many_headed(rng, **changes):
    """A Llama with K = H and weights of some size, and its state."""
    model = Llama(dataclasses.replace(SMALL, K=4, **changes), rng)
    for p in model.named_parameters().values():
        p.data += (.3 * rng.standard_normal(p.shape)).astype(np.float32)
    return model, model.state_dict()


def test_flipped_signs_change_no_logit_but_change_what_is_pooled(rng):
    model, state = many_headed(rng)
    kept = {name: array.copy() for name, array in state.items()}
    ids = rng.integers(11, size=(2, 6))
    flipped = pooling.flip(state, 4, rng)
    assert all((state[name] == kept[name]).all() for name in kept)
    assert all(flipped[name].dtype == np.float32 for name in kept)
    other = Llama(model.config, rng)
    other.load_state_dict(flipped)
    assert other(ids).data == pytest.approx(model(ids).data, abs=1e-5)
    changed = flipped["blocks.0.mix.inner.qkv.w"] != state["blocks.0.mix.inner.qkv.w"]
    assert changed[:, :8].any() and changed[:, 8:16].any() and changed[:, 16:].any()
    ways = {way: make(state, 4, 2, np.random.default_rng(1)) for way, make in pooling.WAYS.items()}
    means = pool_heads(state, 4, 4, 2)
    name = "blocks.1.mix.inner.qkv.w"
    assert (ways["mean"][name] == means[name]).all()
    assert (ways["flipped"][name] != means[name]).any()
    assert (ways["first"][name][:, 8:12] == state[name][:, [8, 9, 12, 13]]).all()


def test_a_mean_is_as_long_as_what_its_heads_have_in_common(rng):
    w = np.concatenate([rng.standard_normal((50, 8)), np.tile(rng.standard_normal((50, 2)), 4),
                        rng.standard_normal((50, 8))], axis=1)         # equal keys, values not
    keys, values = pooling.sizes({"a.qkv.w": w}, 4, 1)
    assert keys == pytest.approx(1) and values == pytest.approx(.5, abs=.1)
    assert pooling.sizes({"a.qkv.w": w}, 4, 4) == pytest.approx([1, 1])
    assert pooling.sizes({"a.qkv.w": w, "b.qkv.w": w}, 4, 2)[0] == pytest.approx(1)
    assert pooling.sizes({"a.qkv.w": w}, 4, 2)[1] == pytest.approx(math.sqrt(.5), abs=.1)


def test_the_ladder_from_gpt_to_llama_counts_models_that_can_be_built(rng):
    config = LlamaConfig(V=11, T=6, C=24, L=2, H=4, K=2, F=64, base=100.0)
    shape = GPTConfig(V=11, T=6, C=24, L=2, H=4)
    rows = ladder(config)
    counts = dict(row[:2] for row in rows)
    assert counts["GPT, learned positions"] == GPT(shape, rng).count_parameters()
    turned = GPT(dataclasses.replace(shape, rotary=True), rng)
    assert counts["rotary positions"] == turned.count_parameters()
    for i in range(2):
        for path in (f"blocks.{i}.mix.norm", f"blocks.{i}.think.norm"):
            turned.replace(path, RMSNorm(24))
    turned.replace("norm", RMSNorm(24))
    assert counts["RMSNorm: no biases in norms"] == turned.count_parameters()
    for block in turned.blocks:
        for part in (block.mix.inner.qkv, block.mix.inner.project, block.think.inner.up,
                     block.think.inner.down):
            part.b = None
    assert counts["no biases in matrices"] == turned.count_parameters()
    for block in turned.blocks:
        block.think.replace("inner", SwiGLU(24, 64, rng))
    assert counts["SwiGLU of F channels"] == turned.count_parameters()
    assert counts["K heads of keys and values"] == Llama(config, rng).count_parameters()
    for row, K in zip(rows, [4] * 5 + [2], strict=True):
        assert row[2] == 2 * 2 * K * 6                       # 2·L·K·D
    untied = ladder(dataclasses.replace(config, tied=False))
    assert untied[-1][1] == rows[-1][1] + 11 * 24 and untied[-1][2] == rows[-1][2]
    assert ladder(LlamaConfig())[0][1] == gpt.count_parameters(GPTConfig(49152, 8192, 576, 30, 9))


def test_equal_parameters_in_the_experiment_are_equal(rng):
    plan, counts = small.Plan(), {}
    for name, (K, more) in study.LONG.items():
        counts[name] = small.make_model(plan, 84, K, more, rng).count_parameters()
    assert counts["K = 4"] == counts["K = 2, equal parameters"] == counts["K = 1, equal parameters"]
    assert counts["K = 4"] - counts["K = 2"] == 2 * 2 * 72 * 2 * 18
    assert counts["K = 2"] - counts["K = 1"] == 2 * 2 * 72 * 18
    model = small.make_model(plan, 84, 2, 0, rng)
    assert model.blocks[0].mix.inner.qkv.w.data.std() == pytest.approx(72 ** -.5, rel=.05)


def test_the_experiment_goes_on_where_it_was_stopped(tmp_path):
    plan = dataclasses.replace(small.Plan.small(), steps=2, validate=200, factor=30.0)
    path = tmp_path / "grouped.json"
    record = study.measure(plan, path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(record))
    assert set(record["variants"]) == {*study.LONG, *study.SHORT}
    assert all(run["skipped"] == 0 for run in record["runs"])
    cut = json.loads(path.read_text())
    cut["runs"] = cut["runs"][:-3]
    path.write_text(json.dumps(cut))
    again = study.measure(plan, path)
    for run, other in zip(record["runs"], again["runs"], strict=True):
        assert {**run, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(UsageError, match="other settings"):
        study.measure(dataclasses.replace(plan, steps=3), path)


def test_the_committed_experiment_is_what_the_script_says():
    record = json.loads((ROOT / "experiments/grouped.json").read_text())
    plan = small.Plan(characters=record["settings"]["characters"])
    assert record["settings"] == json.loads(json.dumps(dataclasses.asdict(plan)))
    assert set(record["variants"]) == {*study.LONG, *study.SHORT}
    for name, v in record["variants"].items():
        rates = [rate for rate, _ in v["grid"]]
        assert rates[0] < v["rate"] < rates[-1], f"{name}: the best rate is at an edge"
        assert v["rate"] == min(v["grid"], key=lambda row: row[1])[0]
        assert all(b / a == pytest.approx(1.5, rel=.02) for a, b in zip(rates, rates[1:]))
        runs = [run for run in record["runs"] if run["variant"] == name and
                run["part"] == "report"]
        assert v["nats"] == [run["nats"] for run in runs] and len(runs) >= 6
        assert v["mean"] == pytest.approx(statistics.mean(v["nats"]))
    assert [c["what"] for c in record["compared"]] == [what for what, *_ in study.COMPARED]


def test_copies_are_counted_as_they_are_made():
    """Forward: (H + 2K)·D read, 3·H·D written; backward the other way round; 4 bytes each."""
    config = LlamaConfig(V=9, T=5, C=8, L=3, H=4, K=4, F=8)
    assert decoding.copied_bytes(config, 4, 2) == 0
    assert decoding.copied_bytes(config, 2, 2) == 2 * 4 * 3 * 2 * 5 * (8 * 2 + 12 * 2)
    assert decoding.copied_bytes(config, 1, 2) == 2 * 4 * 3 * 2 * 5 * (6 * 2 + 12 * 2)


def test_the_stopwatch_reads_what_it_says(rng):
    config = dataclasses.replace(decoding.TINY, T=32)
    found = decoding.engines(config, [4, 1], rng)
    assert {K: e.arch.K for K, e in found.items()} == {4: 4, 1: 1}
    assert found[4].cache.k.std() == pytest.approx(1, rel=.1)
    C, F, V = 64, 64, 64                              # whole tiles of 64: nothing is padded
    assert decoding.weight_bytes(found[4]) == 4 * (3 * C * C + C * C + 3 * C * F + V * C)
    rows = decoding.token_times(found, [5, 31], 1, lambda: None)
    assert [row[0] for row in rows] == [5, 31] and found[4].length == 32


def test_the_run_measures_what_the_note_says(result):
    assert [total for total, _ in result.cache] == [measured for _, measured in result.cache]
    sizes = [total for total, _ in result.cache]
    assert sizes[0] == 2 * 64 * 4 * 16 * 4 and sizes == [sizes[0], sizes[0] // 2, sizes[0] // 4]
    assert max(result.apart) < 1e-5
    assert [row[0] for row in result.trained] == [4, 2, 1]
    assert result.ladder[-1][1] == 134_515_008
    for K, _, before, after in result.pooled:
        assert after < before, K
    found = shares(result)
    n, weights = result.rows[-1][0], result.weights[0]
    assert found[0][1] == pytest.approx(sizes[0] * n / 64 / (sizes[0] * n / 64 + weights))
    one = dataclasses.replace(result, threads=2, head=[5.0, 1.0], rows=[[64, 9.0, 8.0, 7.0]],
                              empty=[1.0, 2.0, 3.0])         # L = 1, H = 4: two heads a thread
    assert [row[2:] for row in shares(one)] == [[8 / 9, 9, 1 + 2 * 5], [3 / 4, 8, 2 + 5 + 1],
                                                [4 / 7, 7, 3 + 5 + 1]]
    assert all(1 / math.sqrt(4 / K) * .9 < size <= 1 for K, *both in result.sizes for size in both)
