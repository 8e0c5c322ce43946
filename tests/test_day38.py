"""Day 38: a twin computes what its reference does, and takes its place only where asked to."""

import importlib
import math

import numpy as np
import pytest

from llm.functions.causal import causal_attention_rows
from llm.functions.heads import merge_heads, split_heads
from llm.grad import ops, tensor, walk
from llm.grad.check import check_pair, check_twin
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor
from llm.kernels.elementwise import exp32
from llm.layers import attention, norm, residual
from llm.layers.positions import ALiBi
from llm.layers.rotary import Rotary
from llm.models.gpt import GPT, GPTConfig
from llm.train import adam, clip
from llm.train.adam import AdamW
from llm.train.fast import fast, twins
from llm.train.loop import fit
from llm.train.schedule import Constant

rng = np.random.default_rng(38)


def normal(*shape):
    return rng.standard_normal(shape)


def ids(high, *shape):
    return rng.integers(0, high, shape)


CASES = [                                    # primitive, arrays, options
    (ops.linear, (normal(5, 3), normal(3, 4), normal(4)), {}),
    (ops.linear, (normal(2, 70, 48), normal(48, 33), normal(33)), {}),
    (ops.linear, (normal(2, 3, 8), normal(8, 6), None), {}),
    (ops.gelu, (normal(3),), {}),
    (ops.gelu, (3 * normal(2, 65, 130),), {}),
    (ops.embedding, (normal(7, 3), ids(7, 5)), {}),
    (ops.embedding, (normal(50, 19), ids(50, 4, 33)), {}),
    (ops.cross_entropy, (normal(4, 5), np.array([0, 4, -100, 2])), {}),
    (ops.cross_entropy, (5 * normal(3, 40, 101), ids(101, 3, 40)), {}),
    (ops.cross_entropy, (normal(2, 5), np.array([-100, -100])), {}),
    (ops.cross_entropy, (300 * normal(4, 9), ids(9, 4)), {}),          # e^300 is no float32
    (tensor.add, (normal(3, 4), normal(3, 4)), {}),
    (tensor.add, (normal(2, 300, 240), normal(2, 300, 240)), {}),
    (tensor.add, (normal(2, 300, 240), normal(300, 240)), {}),
    (norm.layernorm, (normal(1, 4), normal(4), normal(4)), {}),
    (norm.layernorm, (normal(3, 50, 37) + 5, normal(37), normal(37)), {"eps": 1e-3}),
    (attention.multi_head, (normal(1, 1, 6),), {"H": 2, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 7, 30),), {"H": 2, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 67, 72),), {"H": 3, "rule": attention.heads.NO_RULE}),
    (attention.multi_head, (normal(2, 9, 24),), {"H": 2, "rule": ALiBi(2)}),
    (attention.multi_head, (normal(2, 41, 120),), {"H": 1, "rule": Rotary(40, 50)}),
    (attention.multi_head, (normal(2, 9, 24),), {"H": 2, "rule": Rotary(4, 9, interleaved=True)}),
    (residual.dropout, (normal(6, 40), rng.random((6, 40)) < 0.7), {"rate": 0.3}),
]


def test_exp_by_hand():
    """e¹: n = 1, r = 1 − ln 2 = 0.306853, eʳ = 1.359141, and twice that is 2.718282."""
    n = math.floor(1 / math.log(2) + 0.5)
    r = 1 - n * math.log(2)
    series = sum(r**k / math.factorial(k) for k in range(8))
    assert (n, round(r, 6), round(series, 6), round(2 * series, 6)) == (1, .306853, 1.359141,
                                                                      2.718282)
    assert exp32(np.float32(1)) == pytest.approx(2 * series, rel=1.5e-7)       # one rounding more
    assert exp32(np.float32(0)) == 1


def test_exp_is_exact_to_the_last_bits_wherever_it_is_a_float32():
    x = np.linspace(-86, 87, 10_001, dtype=np.float32)
    mine = np.array([exp32(a) for a in x], np.float64)
    assert np.abs(mine / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    assert 0 < exp32(np.float32(-1e9)) < 2e-38 and np.isfinite(exp32(np.float32(1e9)))


def named(case):
    primitive, arrays, _ = case
    return f"{primitive.__name__}-{'x'.join(map(str, arrays[0].shape))}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_twin_equals_reference(case):
    primitive, arrays, options = case
    check_twin(primitive.pair, twins()[primitive], arrays, np.random.default_rng(0),
               rtol=2e-4, atol=2e-5, **options)


def test_every_twin_has_a_case():
    pairs = {reference for reference in twins() if hasattr(reference, "pair")}
    assert {primitive for primitive, *_ in CASES} == pairs


def test_attention_twin_does_not_see_the_future():
    qkv = normal(1, 40, 3 * 16).astype(np.float32)
    f, _ = twins()[attention.multi_head]
    q, k, v = (split_heads(part, 2) for part in np.split(qkv.astype(np.float64), 3, axis=-1))
    expected = merge_heads(causal_attention_rows(q, k, v))
    np.testing.assert_allclose(f(qkv, H=2, rule=attention.heads.NO_RULE)[0], expected, atol=1e-5)
    changed = qkv.copy()
    changed[:, 23:] = 1e6
    out = f(changed, H=2, rule=attention.heads.NO_RULE)[0]
    assert np.array_equal(out[:, :23], f(qkv, H=2, rule=attention.heads.NO_RULE)[0][:, :23])


def test_float64_steps_aside_so_gradient_checks_pass_inside_fast():
    pair = twins()[ops.gelu]
    check = np.random.default_rng(1)
    x = normal(3, 5)
    assert pair[0](x)[0].dtype == np.float64
    with pytest.raises(AssertionError):          # a wrong pair is still found
        check_pair(pair[0], lambda dout, *saved: (2 * pair[1](dout, *saved)[0],), x, rng=check)


@pytest.mark.parametrize("n", [1, 5, 40_000])
def test_adamw_twin_equals_reference(n):
    arrays = [normal(n).astype(np.float32) for _ in range(4)]
    arrays[3] = np.abs(arrays[3])
    mine, theirs = [a.copy() for a in arrays], [a.copy() for a in arrays]
    settings = (3, 1e-2, 0.9, 0.99, 1e-8, 0.1)
    twins()[adam.adamw_update](*mine, *settings)
    adam.adamw_update.__wrapped__(*theirs, *settings)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (200, 300)])
def test_norm_scale_and_accumulation_equal_their_references(shape):
    g = normal(*shape).astype(np.float32)
    assert math.isclose(twins()[clip.squared_norm](g), float((g.astype(float)**2).sum()),
                        rel_tol=1e-5)
    scaled = g.copy()
    twins()[clip.scale](scaled, 0.5)
    assert np.array_equal(scaled, g * np.float32(0.5))
    total = g.copy()
    twins()[walk.add_into](total, g)
    assert np.array_equal(total, g + g)


def test_nan_gradient_is_still_seen():
    g = np.ones(10, np.float32)
    g[3] = np.nan
    assert math.isnan(twins()[clip.squared_norm](g))


def test_bad_shapes_raise_the_references_errors():
    def ones(*shape):
        return Tensor(np.ones(shape, np.float32))

    with fast():
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 5\)"):
            ops.linear(ones(2, 3), ones(4, 5))
        with pytest.raises(ValueError, match=r"\(4,\).*\(3, 5\)"):
            ops.linear(ones(2, 3), ones(3, 5), ones(4))
        with pytest.raises(ValueError, match="9"):
            ops.embedding(ones(4, 5), np.array([1, 9]))
        with pytest.raises(ValueError, match=r"\(5,\)"):
            norm.layernorm(ones(3, 4), ones(5), ones(4))
        with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 3\)"):
            residual.dropout(ones(3, 4), np.ones((3, 3), bool), rate=0.5)
        with pytest.raises(ValueError, match="broadcast"):
            adam.adamw_update(*(np.ones(n, np.float32) for n in (4, 3, 4, 4)),
                              1, 0.1, 0.9, 0.99, 1e-8, 0)


def test_single_numbers_and_empty_arrays_go_to_the_reference():
    with fast():
        assert float(ops.gelu(Tensor(np.array(1, np.float32))).data) == pytest.approx(0.841192)
        assert ops.gelu(Tensor(np.ones((0, 3), np.float32))).data.shape == (0, 3)


def test_scope_ends_with_the_block_and_on_errors():
    def fake(*arrays):
        raise RuntimeError("fake")

    x = Tensor(np.ones(3, np.float32))
    with pytest.raises(RuntimeError, match="fake"), lower({ops.gelu: (fake, fake)}):
        ops.gelu(x)
    assert ops.gelu(x).data[0] == pytest.approx(0.841192, abs=1e-5)
    with pytest.raises(TypeError, match="lowerable"), lower({np.exp: fake}):
        pass


def train(context):
    """Ten steps of a small GPT, with or without kernels."""
    model = GPT(GPTConfig(V=19, T=33, C=24, L=2, H=3, dropout=0.1), np.random.default_rng(0))
    source = np.random.default_rng(1)
    drop = np.random.default_rng(2)

    def batches():
        while True:
            rows = source.integers(0, 19, (4, 34))
            yield rows[:, :-1], rows[:, 1:]

    def loss(batch):
        return model.loss(*batch, drop), batch[1].size

    parameters = model.named_parameters()
    with context:
        return fit(parameters, loss, batches(), AdamW(parameters), Constant(1e-2), steps=10).losses


def test_training_with_kernels_follows_training_without():
    import contextlib
    np.testing.assert_allclose(train(fast()), train(contextlib.nullcontext()), atol=1e-3)


def test_the_run_times_every_primitive_on_both_sides_and_a_step():
    run = importlib.import_module("days.day38.run")
    result = run.measure(fast=True, seed=0)
    assert len(result.names) == len(result.numpy_ms) == len(result.kernel_ms) == 8
    times = [*result.numpy_ms, *result.kernel_ms, result.step_numpy_ms, result.step_kernel_ms]
    assert min(times) > 0 and result.sgemm_gflops > 0
    assert run.title(result).endswith("ms on kernels")


def test_the_figures_title_names_each_change_and_what_a_step_takes_after_it():
    run = importlib.import_module("days.day38.run")
    steps = [100, 90, 160, 55]                           # NumPy, memory kept, spinning, sleeping
    found = run.title(run.Result("", [], [], [], *steps, [], 1, 0, 0, "", None))
    assert "100 ms on NumPy, 90 if freed memory is kept, 55 on kernels" in found
    assert found.endswith("spin, the same kernels take 160")
