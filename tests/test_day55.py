"""Day 55 · Adapters, prefixes, prompts: by hand, against brute force, and what must not change."""

import math

import numpy as np
import pytest

from days.day55 import methods
from days.day55.run import measure
from experiments import adapters as study
from llm.functions import join as pairs
from llm.functions.heads import NO_RULE, multi_head
from llm.functions.probability import softmax
from llm.grad import ops
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor, no_grad
from llm.grad.walk import topological
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.tune import prefix
from llm.tune.adapters import Adapter, BiasLinear, add_adapters, bitfit
from llm.tune.fast_lora import fast
from llm.tune.lora import LoRALinear, add_lora, loss_of, merge
from llm.tune.prefix import add_prefix, add_prompt, keys_and_values, rows
from llm.tune.share import load_trained, save_trained, share, trained_state

GPT_SMALL = GPTConfig(V=29, T=12, C=16, L=2, H=4, rotary=True)
GPT_LEARNED = GPTConfig(V=29, T=12, C=16, L=2, H=4)
LLAMA = LlamaConfig(V=29, T=12, C=16, L=2, H=4, K=2, F=32, base=100.0)
KINDS = [(GPT, GPT_SMALL), (Llama, LLAMA)]
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
NEXT = np.array([[1, 4, 1, 5, 9], [2, 6, -100, 3, 5]])
READ = np.array([7, 8, 2])                               # what a prefix or prompt starts from


@pytest.fixture
def rng():
    return np.random.default_rng(55)


def make(kind, config, rng, exact=False):
    """A model whose every part matters; exact: in float64."""
    model = kind(config, rng)
    for p in model.named_parameters().values():
        p.data = p.data.astype(np.float64) + 0.2 * rng.standard_normal(p.shape)
        p.data = p.data if exact else p.data.astype(np.float32)
    return model


def prepare(method, model, rng):
    """The same model, for `method`."""
    {"adapters": lambda: add_adapters(model, 3, rng), "BitFit": lambda: bitfit(model),
     "LoRA": lambda: add_lora(model, 2, 4, rng),
     "prefix": lambda: add_prefix(model, rows(model, READ)),
     "prompt": lambda: add_prompt(model, rows(model, READ))}[method]()
    return model


def train(model, steps=3, rate=1e-2):
    parameters = model.named_parameters()
    return fit(parameters, lambda _: (loss_of(model, IDS, NEXT), 9), iter([None] * steps),
               AdamW(parameters), Constant(rate), steps=steps)


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


METHODS = ("adapters", "LoRA", "prefix", "BitFit", "prompt")


# By hand

def test_the_example_by_hand_a_prefix_mixes_two_answers():
    """Scores ln 2 of the prefix and 0, 0 of the text: weights ½, ¼, ¼, and ½·9 + ½·3 = 6."""
    qkv = np.array([[[0, math.log(2), 9], [1, 0, 2], [1, 0, 4]]])
    out, _ = multi_head(qkv, H=1)
    assert out[0, 2, 0] == pytest.approx(6)
    assert out[0, 1, 0] == pytest.approx(20 / 3)           # the first token: ⅔·9 + ⅓·2
    joined, _ = pairs.join(np.array([[math.log(2), 9.0]]), qkv[:, 1:])
    assert (joined == qkv).all()


def test_the_example_by_hand_join_and_leave():
    x = np.array([[[1.0, 2]], [[3, 4]]])
    out, saved = pairs.join(np.array([[7.0]]), x)
    assert out.tolist() == [[[0, 7], [1, 2]], [[0, 7], [3, 4]]]
    dfirst, dx = pairs.join_vjp(np.arange(8.0).reshape(2, 2, 2), *saved)
    assert dfirst.tolist() == [[1 + 5]] and dx.tolist() == [[[2, 3]], [[6, 7]]]
    assert pairs.leave(out, 1)[0].tolist() == x.tolist()
    assert pairs.leave_vjp(x, 1)[0].tolist() == [[[0, 0], [1, 2]], [[0, 0], [3, 4]]]


def test_the_example_by_hand_numbers_trained():
    """C 96, L 3, H 3: about 20,000 of adapters, LoRA and prefix; the other two have fewer."""
    config = GPTConfig(V=512, T=128, C=96, L=3, H=3, rotary=True)
    counts = {}
    for method in METHODS:
        model, rng = GPT(config, np.random.default_rng(0)), np.random.default_rng(0)
        {"adapters": lambda m=model, r=rng: add_adapters(m, 16, r),
         "LoRA": lambda m=model, r=rng: add_lora(m, 4, 8, r),
         "prefix": lambda m=model: add_prefix(m, rows(m, np.arange(32))),
         "BitFit": lambda m=model: bitfit(m),
         "prompt": lambda m=model: add_prompt(m, rows(m, np.arange(32)))}[method]()
        counts[method] = model.count_parameters()
    assert counts == {"adapters": 19_104, "LoRA": 20_736, "prefix": 18_432, "BitFit": 3_936,
                      "prompt": 3_072}
    assert counts["adapters"] == 3 * 2 * (2 * 96 * 16 + 16 + 96)
    assert counts["prefix"] == 3 * 32 * 2 * 96 and counts["prompt"] == 32 * 96
    assert counts["BitFit"] == 3 * (13 * 96) + 2 * 96


# The start

@pytest.mark.parametrize("kind, config", [*KINDS, (GPT, GPT_LEARNED)])
@pytest.mark.parametrize("method", ["adapters", "LoRA", "BitFit"])
def test_at_the_start_the_output_is_the_base_s_to_the_bit(rng, kind, config, method):
    base = make(kind, config, rng)
    expected = base(IDS).data
    assert (prepare(method, share(base), rng)(IDS).data == expected).all()


@pytest.mark.parametrize("kind, config", KINDS)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_at_the_start_the_output_is_the_base_s_that_has_read_the_tokens(rng, kind, config, method):
    """Exact in theory; float64 shows it to 1e-10, float32 to 1e-4. It is not the bare base's."""
    for exact, tolerance in ((True, 1e-10), (False, 2e-4)):
        base = make(kind, config, rng, exact)
        whole = base(np.concatenate([np.tile(READ, (2, 1)), IDS], axis=1)).data[:, len(READ):]
        found = prepare(method, share(base), rng)(IDS).data
        assert found.dtype == whole.dtype and found.shape == (2, 5, 29)
        assert found == pytest.approx(whole, abs=tolerance)
        assert np.abs(found - base(IDS).data).max() > 1e-2


def test_a_prompt_is_read_by_a_model_with_learned_positions_too(rng):
    base = make(GPT, GPT_LEARNED, rng, exact=True)
    whole = base(np.concatenate([np.tile(READ, (2, 1)), IDS], axis=1)).data[:, len(READ):]
    assert prepare("prompt", share(base), rng)(IDS).data == pytest.approx(whole, abs=1e-10)
    kept = keys_and_values(base, rows(base, READ))                      # and so are its keys
    x = base.positions(base.embed(READ[None]))
    qkv = base.blocks[0].mix.inner.qkv(base.blocks[0].mix.norm(x)).data[0]
    assert kept[0] == pytest.approx(qkv[:, 16:], abs=1e-12)


# What a prefix can and cannot do

@pytest.mark.parametrize("rule", [NO_RULE, Rotary(4, 12)])
def test_with_a_prefix_attention_mixes_its_answer_with_the_prefix_s(rng, rule):
    """o = (1 − a) o_text + a o_prefix, one a in [0, 1] a token and head (He et al., section 3.1);
    and the ratio of two text weights is what it is without the prefix, moved along alike."""
    P, T, H, D = 3, 5, 2, 4
    first, x = rng.standard_normal((P, 2 * H * D)), rng.standard_normal((1, T, 3 * H * D))
    whole, saved = multi_head(pairs.join(first, x)[0], H=H, rule=rule)
    weights, values = saved[3], saved[2]                       # (1, H, P + T, P + T)
    alone, own = multi_head(x, H=H, rule=rule)
    weights = weights[:, :, P:]
    a = weights[..., :P].sum(axis=-1, keepdims=True)
    assert ((a > 0) & (a < 1)).all() and a.std() > 1e-3
    assert weights[..., P:] / (1 - a) == pytest.approx(own[3], abs=1e-12)
    o_prefix = weights[..., :P] / a @ values[:, :, :P]
    text = alone.reshape(1, T, H, D).transpose(0, 2, 1, 3)
    mixed = (1 - a) * text + a * o_prefix
    assert whole[:, P:].reshape(1, T, H, D).transpose(0, 2, 1, 3) == pytest.approx(mixed, abs=1e-12)


def test_attention_over_a_prefix_is_brute_force_over_all_keys(rng):
    """Every token sees all P rows, at positions 0 … P − 1, and the text up to itself."""
    model = make(GPT, GPT_SMALL, rng, exact=True)
    old = model.get("blocks.0.mix.inner")
    P, T, C, H, D = 3, 4, 16, 4, 4
    layer = prefix.PrefixAttention(old, rng.standard_normal((P, 2 * C)))
    x = rng.standard_normal((2, T, C))
    found = layer(Tensor(x)).data
    angle = np.arange(P + T)[:, None] * 10000.0 ** (-np.arange(0, D, 2) / D)

    def turned(v, t):
        u, w = v[:D // 2], v[D // 2:]
        return np.concatenate([u * np.cos(angle[t]) - w * np.sin(angle[t]),
                               u * np.sin(angle[t]) + w * np.cos(angle[t])])

    for b in range(2):
        q, k, v = np.split(x[b] @ old.qkv.w.data + old.qkv.b.data, 3, axis=1)
        k = np.concatenate([layer.rows.data[:, :C], k])
        v = np.concatenate([layer.rows.data[:, C:], v])
        for t in range(T):
            heads = []
            for h in range(H):
                part = slice(h * D, (h + 1) * D)
                scores = [turned(q[t, part], P + t) @ turned(k[s, part], s) / math.sqrt(D)
                          for s in range(P + t + 1)]
                heads.append(softmax(np.array(scores)) @ v[:P + t + 1, part])
            expected = np.concatenate(heads) @ old.project.w.data + old.project.b.data
            assert found[b, t] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kind, config", KINDS)
def test_every_prompt_is_a_prefix(rng, kind, config):
    """Whatever the vectors: the keys and values that the layers make of them do the same."""
    base = make(kind, config, rng, exact=True)
    vectors = rng.standard_normal((3, 16))
    one, two = share(base), share(base)
    add_prompt(one, vectors)
    add_prefix(two, vectors)
    assert two(IDS).data == pytest.approx(one(IDS).data, abs=1e-10)


def test_not_every_prefix_is_a_prompt(rng):
    """A prompt that leaves the first layer's rows alone leaves the second's; a prefix need not."""
    base = make(GPT, GPT_SMALL, rng, exact=True)
    vectors = rng.standard_normal((2, 16))
    rest = keys_and_values(base, vectors)
    again = keys_and_values(base, vectors.copy())
    assert all((a == b).all() for a, b in zip(rest, again, strict=True))
    model = share(base)
    layers = add_prefix(model, vectors)
    before = model(IDS).data
    layers["blocks.1.mix.inner"].rows.data[0] += 1
    assert (layers["blocks.0.mix.inner"].rows.data == rest[0]).all()
    assert np.abs(model(IDS).data - before).max() > 1e-2


def test_moving_prefix_and_text_together_changes_nothing(rng):
    """Rotary scores depend on distances: positions 2 … instead of 0 … give the same answer, if all
    move; if the text moves alone, they do not."""
    D, P, T = 4, 2, 3
    q, k, v = (rng.standard_normal((1, 1, P + T, D)) for _ in range(3))
    rule = Rotary(D, 20)

    def answer(key_shift, query_shift):
        def at(x, start):
            padded = np.concatenate([np.zeros((1, 1, start, D)), x], axis=2)
            return rule.turn(padded)[:, :, start:]
        kk = np.concatenate([at(k[:, :, :P], key_shift), at(k[:, :, P:], P + query_shift)], axis=2)
        return softmax(at(q[:, :, P:], P + query_shift) @ kk.swapaxes(-1, -2)) @ v

    assert answer(2, 2) == pytest.approx(answer(0, 0), abs=1e-12)
    assert np.abs(answer(0, 2) - answer(0, 0)).max() > 1e-3


# What is trained and what is not

@pytest.mark.parametrize("kind, config", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_only_the_method_s_numbers_change_and_the_base_not_by_a_bit(rng, kind, config, method):
    base = make(kind, config, rng)
    before, output = bits(base), base(IDS).data
    model = prepare(method, share(base), rng)
    own = {id(array) for array in base.state_dict().values()}
    assert not own & {id(array) for array in trained_state(model).values()}
    start, frozen = bits(model), set(model.state_dict()) - set(model.named_parameters())
    run = train(model)
    assert run.losses[-1] < run.losses[0] and run.skipped == 0
    after = bits(model)
    assert {n: start[n] for n in frozen} == {n: after[n] for n in frozen}
    assert all(start[n] != after[n] for n in model.named_parameters())
    assert bits(base) == before and (base(IDS).data == output).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_trained_goes_to_a_file_alone_and_comes_back(rng, method, tmp_path):
    base = make(GPT, GPT_SMALL, rng)
    model = prepare(method, share(base), rng)
    train(model)
    save_trained(tmp_path / "own.safetensors", model)
    size = (tmp_path / "own.safetensors").stat().st_size
    assert 0 < size - 4 * model.count_parameters() < 200 * len(model.named_parameters())
    fresh = prepare(method, share(base), np.random.default_rng(1))
    assert (fresh(IDS).data != model(IDS).data).any()
    load_trained(tmp_path / "own.safetensors", fresh)
    assert (fresh(IDS).data == model(IDS).data).all()
    other = prepare("prompt" if method != "prompt" else "prefix", share(base), rng)
    kept = bits(other)
    with pytest.raises(ValueError, match="does not fit this model.*same method"):
        load_trained(tmp_path / "own.safetensors", other)
    assert bits(other) == kept


def test_a_file_of_another_size_is_refused(rng, tmp_path):
    base = make(GPT, GPT_SMALL, rng)
    add_prompt(one := share(base), rows(base, READ))
    add_prompt(two := share(base), rows(base, READ[:2]))
    save_trained(tmp_path / "p.safetensors", one)
    with pytest.raises(ValueError, match=r"embed\.prompt"):
        load_trained(tmp_path / "p.safetensors", two)
    with pytest.raises(ValueError, match="nothing of this model is trained"):
        frozen = share(base)
        bitfit(frozen)
        for tensor in frozen.named_parameters().values():
            tensor.requires_grad = False
        save_trained(tmp_path / "none.safetensors", frozen)


def test_several_tasks_share_one_base(rng):
    """Five tasks, trained in turn: each answers as if it were alone, over the same arrays."""
    base = make(GPT, GPT_SMALL, rng)
    alone = {}
    for method in METHODS:
        model = prepare(method, make(GPT, GPT_SMALL, np.random.default_rng(55)),
                        np.random.default_rng(2))
        train(model)
        alone[method] = model(IDS).data
    together = {m: prepare(m, share(base), np.random.default_rng(2)) for m in METHODS}
    for model in together.values():
        train(model)
    for method, model in together.items():
        assert (model(IDS).data == alone[method]).all()
        assert model.embed.table.data is base.embed.table.data
        w = [a for a in model.state_dict().values() if a.shape == (16, 64)]
        assert w[0] is base.blocks[0].think.inner.up.w.data


def test_bitfit_trains_every_vector_and_no_matrix(rng):
    for kind, config in [*KINDS, (GPT, GPT_LEARNED)]:
        model = make(kind, config, rng)
        vectors = {name for name, p in model.named_parameters().items() if p.ndim == 1}
        found = bitfit(model)
        assert set(found) == vectors == set(model.named_parameters())
        assert all(p.ndim == 1 and p.requires_grad for p in found.values())


def test_the_gradients_of_every_method_are_those_of_differences(rng):
    """In float64, along one random direction through all that is trained."""
    for kind, config in KINDS:
        base = make(kind, config, rng, exact=True)
        for method in METHODS:
            model = prepare(method, share(base), rng)
            for p in model.named_parameters().values():
                p.data += 0.1 * rng.standard_normal(p.shape)
            loss_of(model, IDS, NEXT).backward()
            parameters, slope = model.named_parameters(), 0.0
            along = {n: rng.standard_normal(p.shape) for n, p in parameters.items()}
            slope = sum(float((p.grad * along[n]).sum()) for n, p in parameters.items())
            ends = []
            for step in (1e-5, -2e-5):
                for n, p in parameters.items():
                    p.data += step * along[n]
                with no_grad():
                    ends.append(float(loss_of(model, IDS, NEXT, gradient=False).data))
            assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4), method


def test_pairs_agree_with_differences(rng):
    check_pair(pairs.join, pairs.join_vjp, rng.standard_normal((2, 3)),
               rng.standard_normal((2, 4, 5)), rng=rng)
    check_pair(pairs.join, pairs.join_vjp, rng.standard_normal((1, 5)),
               rng.standard_normal((3, 1, 5)), rng=rng)
    check_pair(lambda x: pairs.leave(x, 2), pairs.leave_vjp, rng.standard_normal((2, 5, 3)),
               rng=rng)


@pytest.mark.parametrize("method", METHODS)
def test_the_fast_kernels_give_the_same_loss_and_gradient(rng, method):
    base = make(GPT, GPTConfig(V=29, T=24, C=32, L=2, H=2, rotary=True), rng)
    model, grads = prepare(method, share(base), rng), []
    for context in (fast, None):
        model.zero_grad()
        if context:
            with context():
                value = loss_of(model, IDS, NEXT)
                value.backward()
        else:
            value = loss_of(model, IDS, NEXT)
            value.backward()
        grads.append({n: p.grad.copy() for n, p in model.named_parameters().items()})
    for name, g in grads[0].items():
        assert g == pytest.approx(grads[1][name], rel=2e-3, abs=2e-4), name


def test_a_bias_layer_keeps_no_input(rng):
    """BitFit's backward needs less memory than LoRA's: x is not kept for b."""
    x = Tensor(rng.standard_normal((5, 8)).astype(np.float32), requires_grad=True)
    w, b = rng.standard_normal((8, 3)).astype(np.float32), np.zeros(3, np.float32)
    layer = BiasLinear(w, b)
    y = x + 1.0
    for op, keeps in ((layer, False), (ops.linear, True)):
        out = op(y) if op is layer else op(y, Tensor(w, requires_grad=True), None)
        saved = [a for place in topological(out.node) for a in getattr(place, "saved", ())]
        assert any(a is y.data for a in saved) == keeps
    assert layer.weight() is w and layer.b.data is b
    assert (layer(x).data == x.data @ w).all()


def test_an_adapter_starts_as_what_it_stands_behind_and_then_bends_it(rng):
    layer = Adapter(lambda x: x, 4, 2, rng, np.float64)
    x = Tensor(rng.standard_normal((2, 3, 4)))
    assert (layer(x).data == x.data).all() and layer.down.w.data.any()
    assert layer.down.w.dtype == layer.up.w.dtype == np.float64
    layer.up.w.data = np.array([[1.0, 0, 0, 0], [0, 2, 0, 0]])
    layer.up.b.data = np.array([0, 0, 0, 1.0])
    z = x.data @ layer.down.w.data
    gelu = z * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z ** 3)))
    expected = x.data + np.stack([gelu[..., 0], 2 * gelu[..., 1], 0 * z[..., 0],
                                  1 + 0 * z[..., 0]], axis=-1)
    assert layer(x).data == pytest.approx(expected, abs=1e-3)


def test_adapters_stand_behind_both_branches_of_every_block(rng):
    model = make(GPT, GPT_SMALL, rng)
    found = add_adapters(model, 3, rng)
    assert list(found) == [f"blocks.{i}.{b}.inner" for i in range(2) for b in ("mix", "think")]
    assert all(model.get(path) is layer for path, layer in found.items())
    assert all(layer.down.w.shape == (16, 3) for layer in found.values())


def test_the_returned_parts_are_those_in_the_model(rng):
    base = make(GPT, GPT_SMALL, rng)
    layers = add_prefix(model := share(base), rows(base, READ))
    assert list(layers) == ["blocks.0.mix.inner", "blocks.1.mix.inner"]
    assert all(model.get(path) is layer for path, layer in layers.items())
    vectors = rows(base, READ)
    embed = add_prompt(model := share(base), vectors)
    assert model.embed is embed and embed.prompt.data is not vectors
    assert (embed.prompt.data == vectors).all() and not np.shares_memory(vectors,
                                                                         base.embed.table.data)


def test_lora_merges_and_the_others_stay_beside(rng):
    base = make(GPT, GPT_SMALL, rng)
    model = prepare("LoRA", share(base), rng)
    train(model)
    expected = model(IDS).data
    merge(model)
    assert not list(model.named(LoRALinear))
    assert model(IDS).data == pytest.approx(expected, abs=1e-4)


# Edges

def test_what_does_not_fit_is_refused_with_its_shape(rng):
    with pytest.raises(ValueError, match=r"rows \(2, 4\) do not fit in front of x \(1, 2, 3\)"):
        pairs.join(np.zeros((2, 4)), np.zeros((1, 2, 3)))
    for first, x in ((np.zeros(3), np.zeros((1, 2, 3))), (np.zeros((1, 3)), np.zeros((2, 3)))):
        with pytest.raises(ValueError, match="do not fit in front"):
            pairs.join(first, x)
    for x, P in ((np.zeros((1, 2, 3)), 2), (np.zeros((1, 2, 3)), -1), (np.zeros((2, 3)), 1)):
        with pytest.raises(ValueError, match=rf"{P} rows cannot be left out of"):
            pairs.leave(x, P)
    assert pairs.leave(np.ones((1, 2, 3)), 0)[0].shape == (1, 2, 3)
    base = make(GPT, GPT_SMALL, rng)
    for add in (add_prefix, add_prompt):
        before, model = bits(base), share(base)
        for vectors in (np.zeros((2, 15)), np.zeros(16), np.zeros((0, 16)), np.zeros((12, 16))):
            with pytest.raises(ValueError, match=r"wanted \(P, 16\) with 1 ≤ P < 12"):
                add(model, vectors)
        assert model.count_parameters() == base.count_parameters() and bits(model) == before
        add(share(base), rows(base, np.arange(11)))
        with pytest.raises(ValueError, match="angles were made for 12"):
            full = share(base)
            add(full, rows(base, np.arange(8)))
            full(IDS)
        add(model, rows(base, READ))
        for again in (add_prefix, add_prompt):
            with pytest.raises(ValueError, match="prompt already"):
                again(model, rows(base, READ))
    with pytest.raises(ValueError, match="learned positions"):
        add_prefix(make(GPT, GPT_LEARNED, rng), np.zeros((2, 16), np.float32))


def test_the_longest_text_fills_the_window_to_the_last_token(rng):
    base = make(GPT, GPT_SMALL, rng)
    for add in (add_prefix, add_prompt):
        add(model := share(base), rows(base, READ))
        assert model(np.zeros((1, 9), int)).shape == (1, 9, 29)


def test_adapters_of_no_width_or_twice_are_refused(rng):
    model = make(GPT, GPT_SMALL, rng)
    with pytest.raises(ValueError, match="at least 1 channel between, not 0"):
        add_adapters(model, 0, rng)
    assert len(model.named_parameters()) == len(make(GPT, GPT_SMALL, rng).named_parameters())
    add_adapters(model, 1, rng)
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, 1, rng)


# The run and the study

def test_the_task_asks_for_the_numbers_exchanged():
    task = methods.Task(True, methods.Plan(2, drawn=400))
    ids, mask = task.learned[0]
    text = task.start.tokenizer.decode(ids)
    a, b = methods.re.findall(r"\d+", text)[:2]
    assert text.rstrip().endswith(f"{b} {a}<|im_end|>") or f"{b} {a}" in text
    told = {example[0].tobytes() for example in task.learned}
    assert not told & {e[0].tobytes() for e in task.choose + task.report}
    assert not {e[0].tobytes() for e in task.choose} & {e[0].tobytes() for e in task.report}


def test_scores_are_those_of_greedy_decoding():
    task = methods.Task(True, methods.Plan(2, drawn=60))
    nats, right = methods.score(task.start.model, task.choose)
    each = [methods.score(task.start.model, [one]) for one in task.choose]
    counts = [int(one[1][1:].sum()) for one in task.choose]
    assert nats == pytest.approx(np.average([n for n, _ in each], weights=counts), rel=1e-5)
    assert right == pytest.approx(np.mean([r for _, r in each]))


def test_the_headline_of_a_fast_run():
    """A frozen base needs less memory, every method learns, and only rows in front take cache."""
    result = measure(fast=True, seed=0)
    rows_ = {row["method"]: row for row in result.methods}
    assert list(rows_) == list(methods.METHODS)
    assert all(rows_["everything"]["memory"] > rows_[m]["memory"] for m in METHODS)
    assert all(row["nats"][1] < row["nats"][0] for row in rows_.values())
    extra = {name: kept for name, _, kept in result.serving}
    assert extra["prefix"] == extra["prompt"] > 0 == extra["LoRA, merged"] == extra["adapters"]


def test_the_study_keeps_its_runs_and_goes_on(tmp_path):
    small, tried = study.Study.tiny(), [("exchange", "prompt"), ("exchange", "prefix")]
    path = tmp_path / "adapters.json"
    record = study.measure(small, path, tried)
    again = study.measure(small, path, tried)
    assert again["runs"] == record["runs"] and len(record["compared"]) == 1
    for v in record["variants"].values():
        rates = [rate for rate, _ in v["grid"]]
        assert min(rates) <= v["rate"] <= max(rates)
        assert v["rate"] == min(v["grid"], key=lambda pair: pair[1])[0]
        assert all(y / x < 1.51 for x, y in zip(rates, rates[1:]))
