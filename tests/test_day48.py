"""Day 48 · RMSNorm and SwiGLU: by hand, against finite differences and float64, and their twins."""

import contextlib
import json
import math

import numpy as np
import pytest

from days.day48 import control, fold, small, timing
from days.day48.run import measure
from days.harness import UsageError
from experiments import modern_parts
from llm.functions import gated, norm
from llm.functions.dense import gelu
from llm.grad.check import check_pair, check_twin, numerical_gradient
from llm.grad.lowering import twin_of
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.kernels import gated as kernels
from llm.layers import gated as layer
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.gated import RMSNorm, SwiGLU, count_flops, gated_width
from llm.layers.norm import LayerNorm
from llm.models.gpt import GPT, GPTConfig
from llm.train import fast as before
from llm.train.fast_gated import fast, twins

HUGE = 1.8e19                                     # its square, 3.24e38, is a float32; two are not


@pytest.fixture
def rng():
    return np.random.default_rng(48)


def silu(x):
    return x / (1 + np.exp(-np.asarray(x, np.float64)))


def plain_rmsnorm(x, gain, eps=1e-5):
    """The formula in Python's integers and float64, row by row."""
    x = np.asarray(x, np.float64)
    out = np.empty_like(x)
    for i in np.ndindex(x.shape[:-1]):
        size = max(1e-300, *(abs(v) for v in x[i]))
        mean = sum((v / size) ** 2 for v in x[i].tolist()) / x.shape[-1]
        out[i] = x[i] / size / math.sqrt(mean + eps / size / size) * gain
    return out


def test_the_example_by_hand_rmsnorm():
    out, _ = gated.rmsnorm([3, 4], [1, 1])
    assert out == pytest.approx([.848528, 1.131371], abs=1e-6)
    assert (out**2).mean() == pytest.approx(1, abs=1e-6)
    centred, _ = norm.layernorm(np.array([3.0, 4]), np.ones(2), np.zeros(2))
    assert centred == pytest.approx([-1, 1], abs=1e-4)        # two channels: only a sign is left


def test_the_example_by_hand_backward():
    """x̂ = [.6√2, .8√2]; dout = [1, 0]: mean(d·x̂) = .3√2, so d − x̂·that = [.64, −.48]."""
    _, saved = gated.rmsnorm(np.array([3.0, 4]), np.ones(2), eps=1e-30)
    dx, dgain = gated.rmsnorm_vjp(np.array([1.0, 0]), *saved)
    assert dx == pytest.approx(np.array([.64, -.48]) / math.sqrt(12.5))
    assert dx == pytest.approx([.181019, -.135765], abs=1e-6)
    assert 3 * dx[0] + 4 * dx[1] == pytest.approx(0, abs=1e-15)      # nothing along x
    assert dgain == pytest.approx([.848528, 0], abs=1e-6)


def test_the_example_by_hand_swiglu():
    out, saved = gated.swiglu([1, -1, 0], [2, 2, 2])
    assert out == pytest.approx([1.462117, -.537883, 0], abs=1e-6)
    dgate, dup = gated.swiglu_vjp(np.ones(3), *saved)
    assert dgate == pytest.approx([1.855341, .144659, 1], abs=1e-6)
    assert dup == pytest.approx([.731059, -.268941, 0], abs=1e-6)


def test_the_example_by_hand_width():
    assert gated_width(576) == 1536 and 3 * 576 * 1536 == 2 * 576 * 4 * 576       # SmolLM2-135M
    assert gated_width(4096) == 10923 and gated_width(4096, multiple=256) == 11008     # Llama
    assert gated_width(96) == 256 and gated_width(3, ratio=1) == 2 and gated_width(2) == 6
    assert gated_width(96, multiple=32) == 256            # exact already: nothing is added


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 1), (2, 3, 7), (4, 64)])
def test_rmsnorm_equals_the_formula_and_its_rows_have_mean_square_one(rng, shape):
    x, gain = rng.standard_normal(shape) * 3 + 1, rng.standard_normal(shape[-1])
    out, (normal, rstd, kept) = gated.rmsnorm(x, gain)
    assert out == pytest.approx(plain_rmsnorm(x, gain))
    assert normal == pytest.approx(x * rstd) and kept is gain
    assert rstd.shape == (*shape[:-1], 1)
    assert (gated.rmsnorm(x, gain, eps=1e-20)[1][0] ** 2).mean(-1) == pytest.approx(1)
    assert gated.rmsnorm(x, gain, eps=.5)[0] == pytest.approx(plain_rmsnorm(x, gain, .5))


def test_layernorm_is_rmsnorm_of_the_centred_row(rng):
    x, gain = rng.standard_normal((6, 9)) + 2, rng.standard_normal(9)
    centred = x - x.mean(-1, keepdims=True)
    assert norm.layernorm(x, gain, np.zeros(9))[0] == pytest.approx(
        gated.rmsnorm(centred, gain)[0])


def test_what_each_norm_does_not_notice(rng):
    """Both: the scale. LayerNorm alone: a shift of all channels. RMSNorm alone: a rotation."""
    x, one, zero = rng.standard_normal((5, 8)), np.ones(8), np.zeros(8)
    turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))

    def rms(x):
        return gated.rmsnorm(x, one, eps=1e-20)[0]

    def layer_norm(x):
        return norm.layernorm(x, one, zero, eps=1e-20)[0]

    for f in (rms, layer_norm):
        assert f(7 * x) == pytest.approx(f(x)) and f(-x) == pytest.approx(-f(x))
    assert layer_norm(x + 3) == pytest.approx(layer_norm(x))
    assert np.abs(rms(x + 3) - rms(x)).max() > .1
    assert rms(x @ turn) == pytest.approx(rms(x) @ turn)
    assert np.abs(layer_norm(x @ turn) - layer_norm(x) @ turn).max() > .1


@pytest.mark.parametrize("shape", [(4,), (3, 1), (2, 3, 5)])
def test_rmsnorm_gradients_equal_finite_differences(rng, shape):
    check_pair(gated.rmsnorm, gated.rmsnorm_vjp, rng.standard_normal(shape) + .5,
               rng.standard_normal(shape[-1]), rng=rng)
    check_pair(gated.rmsnorm, gated.rmsnorm_vjp, rng.standard_normal(shape),
               rng.standard_normal(shape[-1]), rng=rng, eps=.7)


@pytest.mark.parametrize("shape", [(1,), (2, 3, 5)])
def test_swiglu_gradients_equal_finite_differences(rng, shape):
    check_pair(gated.swiglu, gated.swiglu_vjp, 2 * rng.standard_normal(shape),
               rng.standard_normal(shape), rng=rng)


def test_dx_is_orthogonal_to_x_and_has_a_part_along_one(rng):
    x, dout = rng.standard_normal((2, 4, 9))
    dx, _ = gated.rmsnorm_vjp(dout, *gated.rmsnorm(x, np.ones(9), eps=1e-20)[1])
    assert (dx * x).sum(-1) == pytest.approx(0, abs=1e-12)
    assert (np.abs(dx.sum(-1)) > 1e-3).all()
    dx, *_ = norm.layernorm_vjp(dout, *norm.layernorm(x, np.ones(9), np.zeros(9))[1])
    assert dx.sum(-1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("f", [gated.rmsnorm, kernels.rmsnorm], ids=["numpy", "kernel"])
@pytest.mark.parametrize("row", [[HUGE, -HUGE], [3e38, 3e38, -3e38], [3.4e38] * 8, [1e-25, 3e-25],
                                 [1e-44, 0], [0, 0, 0], [5, 5, 5, 5], [1e38, 1, 1e-38], [2],
                                 [.003, .004]])
def test_no_finite_row_overflows_in_float32(f, row):
    x = np.array([row, row[::-1]], np.float32)
    gain = np.full(len(row), 2, np.float32)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        out, saved = f(x, gain)
    expected = plain_rmsnorm(x, 2)
    assert out.dtype == np.float32 and np.isfinite(out).all()
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-37)
    vjp = kernels.rmsnorm_vjp if f is kernels.rmsnorm else gated.rmsnorm_vjp
    for grad in vjp(np.ones_like(x), *saved):
        assert grad.dtype == np.float32 and np.isfinite(grad).all()


@pytest.mark.parametrize("f", [gated.rmsnorm, kernels.rmsnorm], ids=["numpy", "kernel"])
def test_a_large_eps_counts_where_the_squares_overflow(f):
    x = np.array([[HUGE, -HUGE]], np.float32)
    out, _ = f(x, np.ones(2, np.float32), eps=3e37)              # a tenth of the mean square
    np.testing.assert_allclose(out, plain_rmsnorm(x, 1, 3e37), rtol=2e-6)


def test_float64_rows_whose_squares_overflow():
    x = np.array([[1e200, -1e200], [1e-200, 0]])
    with np.errstate(over="raise"):
        out, _ = gated.rmsnorm(x, np.ones(2))
    assert out == pytest.approx(np.array([[1, -1], [1e-200 / math.sqrt(1e-5), 0]]))


def test_float16_is_summed_in_float32_and_comes_out_as_float16():
    x = np.full((2, 300), 300, np.float16)                 # 300² = 90,000 is beyond float16
    x[1] = 1e-4                                            # 1e-8 is below it
    for gain in (np.ones(300, np.float16), np.ones(300, np.float32)):
        out, saved = gated.rmsnorm(x, gain, eps=1e-10)
        assert out.dtype == np.float16
        np.testing.assert_allclose(out, plain_rmsnorm(x, 1, 1e-10), rtol=2e-3)
        dx, dgain = gated.rmsnorm_vjp(np.ones_like(x), *saved)
        assert dx.dtype == np.float16 and dgain.dtype == gain.dtype
        assert np.isfinite(dx).all() and np.isfinite(dgain).all()


def test_float16_is_rounded_once_at_the_end(rng):
    x, dout, gain = (rng.standard_normal(shape).astype(np.float16)
                     for shape in ((50, 30), (50, 30), 30))
    out, saved = gated.rmsnorm(x, gain)
    wide, wide_saved = gated.rmsnorm(x.astype(np.float32), gain.astype(np.float32))
    assert (out == wide.astype(np.float16)).all()
    grads = gated.rmsnorm_vjp(dout, *saved)
    expected = gated.rmsnorm_vjp(dout.astype(np.float32), *wide_saved)
    for mine, right in zip(grads, expected, strict=True):
        assert mine.dtype == np.float16 and (mine == right.astype(np.float16)).all()


def test_nan_and_infinity_are_not_hidden():
    bad = np.array([[1, np.nan], [1, np.inf], [1, 1]], np.float32)
    one = np.ones(2, np.float32)
    with np.errstate(invalid="ignore"):
        for f in (gated.rmsnorm, kernels.rmsnorm):
            assert np.isnan(f(bad, one)[0]).any(-1).tolist() == [True, True, False]
    for f in (gated.swiglu, kernels.swiglu):
        assert np.isnan(f(bad[:1], np.ones((1, 2), np.float32))[0]).tolist() == [[False, True]]
        assert np.isnan(f(np.ones((1, 2), np.float32), bad[:1])[0]).tolist() == [[False, True]]


@pytest.mark.parametrize("pair", [(gated.swiglu, gated.swiglu_vjp),
                                  (kernels.swiglu, kernels.swiglu_vjp)], ids=["numpy", "kernel"])
def test_swiglu_at_large_and_small_gates(pair):
    gate = np.array([[-3e38, -1e4, -100, -89, -87, -20, 0, 20, 88, 100, 1e4, 3e38]], np.float32)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        out, saved = pair[0](gate, np.ones_like(gate))
        dgate, dup = pair[1](np.ones_like(gate), *saved)
    right = np.maximum(gate.astype(np.float64), 0) - (gate == -20) * 20 / (1 + math.exp(20))
    np.testing.assert_allclose(out, right, rtol=1e-6, atol=1e-35)
    np.testing.assert_allclose(dup, right, rtol=1e-6, atol=1e-35)
    assert dgate[0, [0, 1, 2, -3, -2, -1]] == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-30)
    assert dgate[0, 6] == .5


CASES = [
    (layer.rmsnorm, (1, 4), {}), (layer.rmsnorm, (3, 50, 37), {"eps": 1e-3}),
    (layer.rmsnorm, (5,), {}), (layer.rmsnorm, (7, 1), {}), (layer.rmsnorm, (1100, 130), {}),
    (layer.rmsnorm, (2, 9), {"eps": 1e-31}),
    (layer.swiglu, (3,), {}), (layer.swiglu, (2, 65, 130), {}), (layer.swiglu, (700, 256), {}),
]


@pytest.mark.parametrize("primitive, shape, options", CASES)
def test_twin_equals_reference(rng, primitive, shape, options):
    arrays = 3 * rng.standard_normal(shape) + .5, rng.standard_normal(
        shape[-1:] if primitive is layer.rmsnorm else shape)
    check_twin(primitive.pair, twins()[primitive], arrays, rng, rtol=2e-4, atol=2e-5, **options)


def test_the_twins_run_in_fast_and_only_there(rng, monkeypatch):
    called = []
    for name in ("rmsnorm_rows", "rmsnorm_back_rows", "swiglu_rows", "swiglu_back_rows"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, kernel=kernel, name=name: (
            called.append(name), kernel(*a)))

    def go():
        x = Tensor(rng.standard_normal((3, 8)).astype(np.float32), requires_grad=True)
        layer.swiglu(layer.rmsnorm(x, Tensor(np.ones(8, np.float32))), x).sum().backward()

    go()
    assert called == []
    with fast():
        go()
    assert sorted(called) == ["rmsnorm_back_rows", "rmsnorm_rows", "swiglu_back_rows",
                              "swiglu_rows"]
    go()
    assert len(called) == 4


def test_fast_still_lowers_what_day_38_lowers():
    for primitive in before.twins():
        with fast():
            assert twin_of(primitive, None) is not None
        assert twin_of(primitive, None) is None


def test_float64_and_tiny_eps_step_aside():
    assert kernels.rmsnorm(np.ones((2, 3), np.float32), np.ones(3, np.float32),
                           eps=1e-31) is NotImplemented
    with fast():
        out = layer.rmsnorm(Tensor(np.ones((2, 3))), Tensor(np.ones(3)))
        assert out.dtype == np.float64
        tiny = Tensor(np.full((1, 2), 1e-25, np.float32))
        out = layer.rmsnorm(tiny, Tensor(np.ones(2, np.float32)), eps=1e-60)
        assert out.data == pytest.approx(1)


@pytest.mark.parametrize("context", [None, fast], ids=["numpy", "fast"])
def test_bad_inputs_raise_with_shapes(context):
    def ones(*shape):
        return Tensor(np.ones(shape, np.float32))

    with (context or contextlib.nullcontext)():
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\).*\(4,\)"):
            layer.rmsnorm(ones(2, 3), ones(4))
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\).*\(1, 3\)"):
            layer.rmsnorm(ones(2, 3), ones(1, 3))
        with pytest.raises(ValueError, match=r"\(2, 0\).*at least one channel"):
            layer.rmsnorm(ones(2, 0), ones(0))
        with pytest.raises(ValueError, match=r"\(\)"):
            layer.rmsnorm(ones(), ones())
        for eps in (0, -1e-5, float("nan"), float("inf"), 1e-200):
            with pytest.raises(ValueError, match=f"eps.*{eps}"):
                layer.rmsnorm(ones(2, 3), ones(3), eps=eps)
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
            layer.swiglu(ones(2, 3), ones(3))


def test_no_rows_give_no_rows():
    none = np.ones((0, 3), np.float32)
    out, saved = gated.rmsnorm(none, np.ones(3, np.float32))
    dx, dgain = gated.rmsnorm_vjp(none, *saved)
    assert out.shape == dx.shape == (0, 3) and dgain.tolist() == [0, 0, 0]
    assert gated.swiglu(none, none)[0].shape == (0, 3)
    with fast():
        assert layer.rmsnorm(Tensor(none), Tensor(np.ones(3, np.float32))).shape == (0, 3)


def test_the_modules_have_these_parameters_and_no_others(rng):
    parts = RMSNorm(6), SwiGLU(6, 16, rng)
    shapes = {name: p.shape for part in parts for name, p in part.named_parameters().items()}
    assert shapes == {"gain": (6,), "gate.w": (6, 16), "up.w": (6, 16), "down.w": (16, 6)}
    assert all(p.dtype == np.float32 for part in parts for p in part.named_parameters().values())
    assert (parts[0].gain.data == 1).all() and parts[0].eps == 1e-5
    assert RMSNorm(3, dtype=np.float64).gain.dtype == np.float64
    assert parts[1].count_parameters() * 2 == count_flops(6, 16)


def test_the_modules_start_with_the_spread_they_are_told(rng):
    wide = SwiGLU(300, 400, rng, std=.1, out_std=.02)
    spread = [wide.gate.w.data.std(), wide.up.w.data.std(), wide.down.w.data.std()]
    assert spread == pytest.approx([.1, .1, .02], rel=.02)
    usual = SwiGLU(300, 400, rng)
    assert usual.gate.w.data.std() == pytest.approx(300**-.5, rel=.02)
    assert usual.down.w.data.std() == pytest.approx(400**-.5, rel=.02)
    assert np.abs(usual.gate.w.data - usual.up.w.data).mean() > .01


def test_the_modules_equal_their_formulas(rng):
    x = rng.standard_normal((2, 5, 6))
    part = SwiGLU(6, 16, rng, dtype=np.float64)
    g, u, d = (p.data.astype(np.float64) for p in part.named_parameters().values())
    assert part(Tensor(x)).data == pytest.approx((silu(x @ g) * (x @ u)) @ d)
    scale = RMSNorm(6, eps=.3, dtype=np.float64)
    scale.gain.data = rng.standard_normal(6)
    assert scale(Tensor(x)).data == pytest.approx(plain_rmsnorm(x, scale.gain.data, .3))


def test_gradients_reach_every_parameter_of_a_modern_block(rng):
    block = Block(RMSNorm(4), MultiHeadAttention(4, 2, rng), RMSNorm(4), SwiGLU(4, 6, rng))
    parameters = block.named_parameters()
    for p in parameters.values():
        p.data = p.data.astype(np.float64) + .1 * rng.standard_normal(p.shape)
    x = Tensor(rng.standard_normal((1, 3, 4)), requires_grad=True)
    weights = rng.standard_normal((1, 3, 4))
    (block(x) * Tensor(weights)).sum().backward()
    assert len(parameters) == 9
    for p in [x, *parameters.values()]:
        numeric = numerical_gradient(lambda _: (block(x).data * weights).sum(), p.data)
        assert p.grad == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_equal_parameters(rng):
    for C in (12, 96, 576):
        plain, gate = FeedForward(C, rng), SwiGLU(C, gated_width(C), rng)
        matrices = plain.count_parameters() - 5 * C                   # without its biases
        assert gate.count_parameters() == matrices == 8 * C * C
        assert LayerNorm(C).count_parameters() == 2 * RMSNorm(C).count_parameters()


def test_a_gated_feed_forward_keeps_as_much_as_a_plain_one(rng):
    C, rows = 24, 7
    x = Tensor(rng.standard_normal((rows, C)).astype(np.float32))
    for context in (contextlib.nullcontext, fast):
        with context():
            for part in (FeedForward(C, rng), SwiGLU(C, gated_width(C), rng)):
                assert saved_bytes(part(x)) == 4 * rows * 9 * C
            assert saved_bytes(RMSNorm(C)(x)) == 4 * rows * (C + 1)


def test_what_stands_under_the_root_is_neither_large_nor_small(rng):
    for scale in (1e-30, 1e-3, 1, 1e30):
        for C in (1, 5):
            x = (scale * rng.standard_normal((50, C))).astype(np.float32)
            _, (normal, rstd, _) = gated.rmsnorm(x, np.ones(C, np.float32))
            size = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(math.sqrt(1e-5)))
            under = (1 / (rstd * size)) ** 2
            assert (under > .999 / C).all() and (under < 2.001).all()


def test_a_gate_and_its_opposite_differ_by_the_product_itself(rng):
    """silu(g) − silu(−g) = g: two units with opposite gates give g·u, a product of two inputs."""
    g, u = rng.standard_normal((2, 50))
    both = gated.swiglu(g, u)[0] + gated.swiglu(-g, u)[0]
    assert both == pytest.approx(u * g * np.tanh(g / 2))
    assert gated.swiglu(g, u)[0] - gated.swiglu(-g, u)[0] == pytest.approx(g * u)
    assert gelu(g) - gelu(-g) == pytest.approx(g)


def gpt(rng, norm_of=None, **changes):
    """A GPT of the shape that the fold wants, with nothing left at 0 or 1."""
    config = GPTConfig(**{"V": 23, "T": 12, "C": 16, "L": 2, "H": 2, "rotary": True, **changes})
    model = GPT(config, rng)
    for path in fold.norms(model) if norm_of else ():
        model.replace(path, norm_of(config.C))
    for p in model.named_parameters().values():
        p.data = p.data + .3 * rng.standard_normal(p.shape).astype(np.float32)
    return model


def test_a_gpt_with_layernorm_folds_into_one_with_rmsnorm_and_no_norm_bias(rng):
    model, ids = gpt(rng), rng.integers(0, 23, 200)
    before_, folded = fold.copy(model).state_dict(), fold.Folded(model)
    inputs = ids[:24].reshape(2, 12)
    assert folded(inputs).data == pytest.approx(model(inputs).data, abs=2e-4)
    assert fold.apart(model, folded, ids, 12) < 1e-4
    assert fold.nats(folded, ids, 12) == pytest.approx(fold.nats(model, ids, 12), abs=1e-5)
    kinds = [type(folded.get(path)) for path in fold.norms(model)]
    assert kinds == [RMSNorm] * 5
    assert all((before_[name] == array).all() for name, array in model.state_dict().items())
    assert max(fold.shares(model, ids, 12)) > .01
    folded.config = model.config
    folded.positions = None
    assert max(fold.shares(folded, ids, 12)) < 1e-9            # the stream has no mean any more


def test_leaving_the_mean_in_changes_the_logits_by_as_much_as_there_is_mean(rng):
    model, ids = gpt(rng), rng.integers(0, 23, 200)
    same = fold.without_means(model)
    assert fold.apart(model, same, ids, 12) > .05
    assert [type(same.get(path)) for path in fold.norms(model)] == [fold.Shifted] * 5
    fold.centre(model.embed.table)
    for block in model.blocks:
        for part in (block.mix.inner.project, block.think.inner.down):
            fold.centre(part.w, part.b)
    assert fold.apart(model, fold.without_means(model), ids, 12) < 1e-4


def test_learned_positions_cannot_be_folded_here(rng):
    with pytest.raises(ValueError, match="rotary"):
        fold.Folded(gpt(rng, rotary=False))


def test_shares_and_lengths_are_those_along_one(rng):
    model = gpt(rng, L=1)
    model.embed.table.data[:] = 1                                # the first norm sees (1, …, 1)
    ids = np.zeros(30, np.int64)
    assert fold.shares(model, ids, 12)[0] == pytest.approx(1)
    along, whole = fold.lengths(model, ids, 12)[0]
    assert along == pytest.approx(16) and whole == pytest.approx(16)
    model.embed.table.data[:, :12] = 0                           # mean ¼: 16/16 along 1, 4 in all
    assert fold.shares(model, ids, 12)[0] == pytest.approx(1 / 4)


def test_no_gradient_reaches_the_stream_along_one_through_layernorms(rng):
    ids = rng.integers(0, 23, (4, 13))
    assert fold.gradient_along_one(gpt(rng), ids[:, :-1], ids[:, 1:]) < 1e-10
    assert fold.gradient_along_one(gpt(rng, RMSNorm), ids[:, :-1], ids[:, 1:]) > 1e-4


def test_nats_are_those_of_every_token_once(rng):
    model, ids = gpt(rng), rng.integers(0, 23, 25)
    rows = ids[:24].reshape(2, 12), ids[1:].reshape(2, 12)
    assert fold.nats(model, ids, 12) == pytest.approx(float(model.loss(*rows).data), abs=1e-6)
    assert small.nats(model, ids[:13], 12) == pytest.approx(
        float(model.loss(ids[None, :12], ids[None, 1:13]).data), abs=1e-6)


def test_the_floors_move_what_they_say(rng):
    x, out = rng.standard_normal((2, 5, 7)).astype(np.float32)
    timing.copy_rows(x, out)
    assert (x == out).all()
    assert timing.as_written(x, np.ones(7, np.float32)) == pytest.approx(
        gated.rmsnorm(x, np.ones(7, np.float32))[0], abs=1e-6)
    with np.errstate(over="ignore"):
        big = np.full((1, 2), HUGE * 1.1, np.float32)
        assert timing.as_written(big, np.ones(2, np.float32)).tolist() == [[0, 0]]


def test_a_grid_grows_until_its_best_rate_is_not_at_an_edge():
    plan = small.Plan(first_rates=(.004, .006))
    for goal in (.001, .004, .006, .03):
        asked = []

        def score(rate, goal=goal, asked=asked):
            asked.append(rate)
            return abs(math.log(rate / goal))

        best, grid = modern_parts.best_rate(plan, score)
        rates = [rate for rate, _ in grid]
        assert rates[0] < best < rates[-1] and len(asked) == len(set(asked)) == len(grid)
        assert best == min(rates, key=lambda rate: abs(math.log(rate / goal)))
        assert all(b / a == pytest.approx(1.5, rel=1e-4) for a, b in zip(rates, rates[1:]))
    best, grid = modern_parts.best_rate(plan, lambda rate: rate)            # no end: it gives up
    assert len(grid) < 12


def test_a_comparison_is_paired_and_says_when_it_cannot_tell():
    made = {"a": {"nats": [1.0, 2.0, 3.0]}, "b": {"nats": [1.1, 2.1, 3.1]},
            "c": {"nats": [2.0, 3.0, 1.0]}}
    found = modern_parts.compare(made, "what", ["a"], ["b"])
    assert found["mean"] == pytest.approx(-.1) and found["half"] == pytest.approx(0, abs=1e-12)
    assert found["told_apart"] and found["what"] == "what"
    assert not modern_parts.compare(made, "", ["a"], ["c"])["told_apart"]
    spread = modern_parts.compare(made, "", ["c"], ["a"])           # differences 1, 1, −2
    assert spread["half"] == pytest.approx(9.925 * math.sqrt(3) / math.sqrt(3))
    both = modern_parts.compare(made, "", ["a", "b"], ["b", "c"])   # (a − c)/2
    assert both["half"] == pytest.approx(9.925 / 2)
    names = {name for _, *sides in modern_parts.COMPARED for side in sides for name in side}
    assert names == set(small.VARIANTS)


def test_the_variants_are_what_they_are_called_and_equal_in_size():
    plan, sizes = small.Plan(), {}
    for variant in small.VARIANTS:
        model = small.make_model(plan, 84, variant, np.random.default_rng(0))
        sizes[variant] = model.count_parameters()
        norms = {type(model.get(path)).__name__ for path in fold.norms(model)}
        assert norms == {variant.split(",")[0]}
        inner = model.blocks[0].think.inner
        assert type(inner) is (SwiGLU if "SwiGLU" in variant else FeedForward)
        if type(inner) is FeedForward:
            assert inner.activation.__name__ == variant.split()[-1].lower()
            bare = "bare" in variant
            assert (inner.up.b is None) == (inner.down.b is None) == bare
            std = (.75 if bare else 1) / math.sqrt(72) / 2
            assert inner.down.w.data.std() == pytest.approx(std, rel=.03)
    assert max(sizes.values()) < 1.01 * min(sizes.values())


def test_the_experiment_goes_on_where_it_stopped_and_refuses_another_plan(tmp_path):
    path, plan = tmp_path / "modern_parts-fast.json", small.Plan.small()
    first = modern_parts.measure(plan, path)
    kept = path.read_bytes()
    again = modern_parts.measure(plan, path)
    assert path.read_bytes() == kept and again["variants"] == first["variants"]
    assert len(first["compared"]) == 9 and set(first["variants"]) == set(small.VARIANTS)
    assert json.loads(kept)["cpu_minutes"] > 0
    for v in first["variants"].values():
        assert v["lowest"] <= v["mean"] <= v["highest"] and len(v["nats"]) == 2
    with pytest.raises(UsageError, match="other settings"):
        modern_parts.kept(path, small.Plan())


def test_the_headline_of_the_run():
    result = measure(fast=True, seed=0)
    trained, folded, left_in = result.nats
    assert folded == pytest.approx(trained, abs=1e-5) and result.apart[0] < 1e-4
    assert result.apart[1] > 100 * result.apart[0] and left_in != trained
    assert max(result.shares) < result.chance / 2 and result.gradient < 1e-12
    (_, without), (_, with_mean) = result.control_gradient
    assert max(without) < 1e-12 and min(with_mean) > 1e-4
    assert [name for name, *_ in result.times][:3] == ["copy, the floor", "RMSNorm forward",
                                                       "LayerNorm forward"]
    assert all(ms > 0 for *_, ms in result.times)
    assert [len(x) for _, x in result.growth] == [control.runs(True) // 2] * 2
