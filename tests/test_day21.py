"""Day 21 · Normalisation: claims about LayerNorm, BatchNorm, and what each depends on."""

import importlib

import numpy as np
import pytest

from experiments import norm_halves as halves
from llm.functions.norm import batchnorm, batchnorm_vjp, layernorm, layernorm_vjp
from llm.grad import ops
from llm.grad.check import check_pair, numerical_gradient
from llm.grad.tensor import Tensor
from llm.layers.norm import BatchNorm, LayerNorm
from llm.models.deep_window import DeepWindow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def plain(channels, dtype=np.float64):
    return np.ones(channels, dtype), np.zeros(channels, dtype)


def test_the_hand_example():
    out, (normal, rstd, _) = layernorm(np.array([1.0, 2.0, 3.0, 4.0]), *plain(4), eps=1e-5)
    assert out == pytest.approx([-1.3416354, -0.4472118, 0.4472118, 1.3416354], abs=5e-8)
    assert rstd == pytest.approx(1 / np.sqrt(1.25001))
    assert (normal == out).all()
    saved = layernorm(np.array([1.0, 2.0, 3.0, 4.0]), *plain(4), eps=0.0)[1]
    dx = layernorm_vjp(np.array([1.0, 0.0, 0.0, 0.0]), *saved)[0]
    assert dx * np.sqrt(1.25) == pytest.approx([0.3, -0.4, -0.1, 0.2])


def test_the_hand_example_of_batchnorm():
    x = np.array([[1.0, 10.0], [3.0, 30.0]])
    out, _ = batchnorm(x, np.array([1.0, 2.0]), np.array([0.0, 5.0]), eps=0.0)
    assert out == pytest.approx(np.array([[-1.0, 3.0], [1.0, 7.0]]))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 3), (2, 3, 4), (2, 3, 4, 6)])
def test_each_row_of_layernorm_has_mean_0_and_variance_1(rng, shape):
    x = 3 + 5 * rng.standard_normal(shape)
    out, _ = layernorm(x, *plain(shape[-1]), eps=0.0)
    assert out.mean(axis=-1) == pytest.approx(0, abs=1e-12)
    assert out.var(axis=-1) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(2, 1), (7, 3), (2, 3, 4), (2, 3, 4, 6)])
def test_each_channel_of_batchnorm_has_mean_0_and_variance_1(rng, shape):
    x = 3 + 5 * rng.standard_normal(shape)
    out = batchnorm(x, *plain(shape[-1]), eps=0.0)[0].reshape(-1, shape[-1])
    assert out.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert out.var(axis=0) == pytest.approx(1)


def test_layernorm_ignores_shift_and_scale_and_gain_and_bias_bring_them_back(rng):
    x, gain, bias = rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    out, _ = layernorm(x, *plain(6), eps=0.0)
    np.testing.assert_allclose(layernorm(7 * x - 3, *plain(6), eps=0.0)[0], out, atol=1e-12)
    np.testing.assert_allclose(layernorm(x, gain, bias, eps=0.0)[0], out * gain + bias)


def test_a_constant_row_gives_zero_and_a_finite_gradient():
    x = np.array([[5.0, 5.0, 5.0], [0.0, 0.0, 0.0]])
    out, saved = layernorm(x, *plain(3))
    assert (out == 0).all()
    assert np.isfinite(layernorm_vjp(np.ones((2, 3)), *saved)[0]).all()
    assert (batchnorm(np.full((4, 2), 7.0), *plain(2))[0] == 0).all()


@pytest.mark.parametrize("shape", [(5,), (1, 1), (4, 3), (2, 3, 4), (0, 3)])
def test_layernorm_s_gradient_equals_finite_differences(rng, shape):
    c = shape[-1]
    check_pair(layernorm, layernorm_vjp, rng.standard_normal(shape), rng.standard_normal(c),
               rng.standard_normal(c), rng=rng, eps=1e-3)


@pytest.mark.parametrize("shape", [(2, 1), (4, 3), (2, 3, 4)])
def test_batchnorm_s_gradient_equals_finite_differences(rng, shape):
    c = shape[-1]
    check_pair(batchnorm, batchnorm_vjp, rng.standard_normal(shape), rng.standard_normal(c),
               rng.standard_normal(c), rng=rng, eps=1e-3)


@pytest.mark.parametrize("pair, axis", [((layernorm, layernorm_vjp), -1),
                                        ((batchnorm, batchnorm_vjp), 0)])
def test_the_gradient_has_no_part_along_what_the_norm_cancels(rng, pair, axis):
    x, dout = rng.standard_normal((2, 8, 6))
    out, saved = pair[0](x, *plain(6), eps=0.0)
    dx = pair[1](dout, *saved)[0]
    assert dx.sum(axis=axis) == pytest.approx(0, abs=1e-12)
    assert (dx * out).sum(axis=axis) == pytest.approx(0, abs=1e-12)


def test_after_a_norm_the_gradient_of_the_weights_halves_as_they_double_and_is_at_right_angles(rng):
    x, w, c = rng.standard_normal((7, 5)), rng.standard_normal((5, 6)), rng.standard_normal((7, 6))

    def gradient(w):
        saved = layernorm(x @ w, *plain(6), eps=0.0)[1]
        return x.T @ layernorm_vjp(c, *saved)[0]

    g = gradient(w)
    np.testing.assert_allclose(gradient(2 * w), g / 2, rtol=1e-9)
    assert (w * g).sum() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(w - g) ** 2 == pytest.approx(np.sum(w**2) + np.sum(g**2))


def test_batchnorm_is_layernorm_of_the_transpose(rng):
    x = rng.standard_normal((5, 7))
    np.testing.assert_allclose(batchnorm(x, *plain(7))[0], layernorm(x.T, *plain(5))[0].T)


def test_a_large_offset_does_not_cost_the_digits():
    x = np.float32(1e4) + np.array([[1, 2, 3, 4]], np.float32)
    out, _ = layernorm(x, *plain(4, np.float32), eps=1e-5)
    assert out.dtype == np.float32
    assert out[0] == pytest.approx([-1.3416354, -0.4472118, 0.4472118, 1.3416354], abs=1e-6)


def test_layernorm_of_a_token_depends_on_that_token_alone(rng):
    norm, x = LayerNorm(4, dtype=np.float64), rng.standard_normal((3, 5, 4))
    whole = norm(Tensor(x)).data
    assert (norm(Tensor(x[1:2, 3:4])).data == whole[1:2, 3:4]).all()


def test_batchnorm_in_training_depends_on_the_batch_and_looks_ahead(rng):
    norm, x = BatchNorm(4, dtype=np.float64), rng.standard_normal((3, 5, 4))
    later = x.copy()
    later[:, -1] += 3                                   # the future of position 0
    before, after = (norm(Tensor(z), training=True).data[:, 0] for z in (x, later))
    assert np.abs(before - after).min() > 0.01


def test_batchnorm_in_evaluation_does_not_depend_on_the_batch(rng):
    norm = BatchNorm(4, dtype=np.float64)
    for _ in range(5):
        norm(Tensor(2 + 3 * rng.standard_normal((20, 4))), training=True)
    x = rng.standard_normal((6, 4))
    whole = norm(Tensor(x)).data
    for i in range(6):
        assert (norm(Tensor(x[i:i + 1])).data == whole[i:i + 1]).all()
    np.testing.assert_allclose(whole, (x - norm.mean) / np.sqrt(norm.var + 1e-5))


def test_running_statistics_by_hand_and_their_limit(rng):
    norm = BatchNorm(1, momentum=0.1, dtype=np.float64)
    norm(Tensor(np.array([[2.0], [6.0]])), training=True)
    assert norm.mean[0] == pytest.approx(0.1 * 4)
    assert norm.var[0] == pytest.approx(0.9 * 1 + 0.1 * 8)         # unbiased: (4 + 4) / 1
    for _ in range(300):
        norm(Tensor(5 + 2 * rng.standard_normal((500, 1))), training=True)
    assert norm.mean[0] == pytest.approx(5, abs=0.15)
    assert norm.var[0] == pytest.approx(4, rel=0.1)


def test_the_running_statistics_are_saved_but_not_trained(rng):
    one, two = BatchNorm(3), BatchNorm(3)
    one(Tensor(rng.standard_normal((9, 3)).astype(np.float32)), training=True)
    assert set(one.named_parameters()) == {"gain", "bias"}
    assert set(one.state_dict()) == {"gain", "bias", "mean", "var"}
    assert all(a.dtype == np.float32 for a in one.state_dict().values())
    two.load_state_dict(one.state_dict())
    x = Tensor(rng.standard_normal((2, 3)).astype(np.float32))
    assert (one(x).data == two(x).data).all()


@pytest.mark.parametrize("make, options", [(LayerNorm, {}), (BatchNorm, {}),
                                           (BatchNorm, {"training": True})])
def test_the_modules_gradients_equal_finite_differences(rng, make, options):
    norm = make(3, eps=1e-3, dtype=np.float64)
    norm.gain.data[...], norm.bias.data[...] = rng.standard_normal((2, 3))
    x, w = Tensor(rng.standard_normal((4, 3)), requires_grad=True), rng.standard_normal((4, 3))
    loss = lambda: (norm(x, **options) * Tensor(w)).sum()
    if make is BatchNorm:
        norm.mean += 0.3
        norm.var *= 2.0
    loss().backward()
    for p in (x, norm.gain, norm.bias):
        before = {n: a.copy() for n, a in norm.state_dict().items()}
        numeric = numerical_gradient(lambda _: loss().data, p.data)
        norm.load_state_dict(before)
        np.testing.assert_allclose(p.grad, numeric, atol=1e-7)


@pytest.mark.parametrize("norm, options", [(LayerNorm, {}), (BatchNorm, {"training": True})])
def test_with_a_norm_the_gain_of_the_weights_does_not_matter(norm, options):
    ids = np.random.default_rng(1).integers(9, size=(30, 3))
    sizes = [[a.data.std() for a in
              DeepWindow(9, 3, 4, 16, 12, np.random.default_rng(0), norm, gain, np.float32)
              .activations(ids, **options)] for gain in (0.5, 3.0)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    bare = [DeepWindow(9, 3, 4, 16, 12, np.random.default_rng(0), None, gain)
            .activations(ids)[-1].data.std() for gain in (0.5, 3.0)]
    assert bare[0] < 0.01 < 0.5 < bare[1]


def test_a_deep_model_with_norms_has_right_gradients(rng):
    make = lambda channels: LayerNorm(channels, dtype=np.float64)
    model = DeepWindow(5, 2, 3, 4, 2, rng, norm=make, dtype=np.float64)
    ids, targets = rng.integers(5, size=(6, 2)), rng.integers(5, size=6)
    loss = lambda: ops.cross_entropy(model(ids), targets)
    loss().backward()
    assert "norms.1.gain" in model.named_parameters()
    for name, p in model.named_parameters().items():
        numeric = numerical_gradient(lambda _: loss().data, p.data)
        np.testing.assert_allclose(p.grad, numeric, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("f", [layernorm, batchnorm])
def test_wrong_shapes_raise_with_the_shapes(f):
    for gain, bias in (((3,), (4,)), ((4,), (1,)), ((1,), (1,)), ((2, 4), (2, 4))):
        with pytest.raises(ValueError, match=r"of \(2, 4\) wants gain and bias of shape \(4,\)"):
            f(np.ones((2, 4)), np.ones(gain), np.ones(bias))
    with pytest.raises(ValueError, match=r"of \(\) wants"):
        f(np.float64(3.0), np.float64(1.0), np.float64(0.0))


@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (4,), (1, 1, 4)])
def test_one_row_has_no_batch_to_learn_from(shape):
    norm = BatchNorm(4)
    with pytest.raises(ValueError, match=r"more than one row, got shape"):
        norm(Tensor(np.ones(shape, np.float32)), training=True)
    assert not norm.mean.any()
    assert norm(Tensor(np.ones(shape, np.float32))).shape == shape


def test_a_refused_batch_leaves_the_running_statistics_alone():
    norm = BatchNorm(4)
    with pytest.raises(ValueError, match="batchnorm of .3, 1. wants"):
        norm(Tensor(np.ones((3, 1), np.float32)), training=True)
    assert not norm.mean.any()
    with pytest.raises(ValueError, match="batchnorm of .3, 1. wants"):
        norm(Tensor(np.ones((3, 1), np.float32)))


def test_batchnorm_s_dependence_on_the_batch_shrinks_as_one_over_root_b():
    result = importlib.import_module("days.day21.run").measure(fast=True, seed=0)
    for batch, found, predicted in result.companions:
        assert found == pytest.approx(predicted, rel=0.25), batch
    assert result.leak["LayerNorm"] == 0 < 0.1 < result.leak["BatchNorm"]
    assert result.scales["no norm"][0][-1] < 1e-3 < 0.5 < result.scales["LayerNorm"][0][-1]
    assert result.unseen["BatchNorm"][0] < result.unseen["no norm"][0]
    for kind in ("LayerNorm", "BatchNorm"):
        assert result.longer[kind] == pytest.approx([1, 1 / 2, 1 / 4], rel=1e-3)
    assert result.longer["no norm"][1] > 0.55
    for _, found, running in result.evaluated[:3]:       # on the very same windows
        assert found > running
        assert running == pytest.approx(result.running, abs=0.3)


def test_the_two_halves_of_batchnorm_are_halves_with_right_gradients(rng):
    x, gain, bias = rng.standard_normal((6, 4)) + 3, *rng.standard_normal((2, 4))
    for f, f_vjp in ((halves.centred_rows, halves.centred_rows_vjp),
                     (halves.scaled_channels, halves.scaled_channels_vjp)):
        check_pair(f, f_vjp, x, gain, bias, rng=rng)
    shifted = x + rng.standard_normal(4)                     # each channel by a number of its own
    assert halves.centred_rows(shifted, gain, bias)[0] == pytest.approx(
        halves.centred_rows(x, gain, bias)[0])
    centred = x - x.mean(axis=0)
    assert halves.scaled_channels(centred, gain, bias)[0] == pytest.approx(
        batchnorm(centred, gain, bias)[0])
    for make in (halves.CentredRows, halves.ScaledChannels):   # running like those of the batch
        norm = make(4, momentum=1.0, dtype=np.float64)
        trained = norm(Tensor(x), training=True).data
        norm.var *= 5 / 6                                      # it divides by N − 1
        assert norm(Tensor(x)).data == pytest.approx(trained)


def test_what_all_tokens_share_is_told_from_what_they_do_not():
    model = DeepWindow(9, 3, 4, 16, 2, np.random.default_rng(0), LayerNorm)
    ids = np.random.default_rng(1).integers(9, size=(500, 3))
    assert max(halves.shared(model, ids)) < 0.3
    for layer in model.layers:
        layer.b.data[:] = 100 * np.random.default_rng(2).standard_normal(16)
    assert min(halves.shared(model, ids)) > 0.99


def test_layernorm_of_numbers_whose_squares_overflow():
    x = np.array([[1.8e19, -1.8e19], [3e38, 3e37], [1.0, -1.0]], np.float32)
    gain, bias = np.ones(2, np.float32), np.zeros(2, np.float32)
    out, _ = layernorm(x, gain, bias)
    np.testing.assert_allclose(out, [[1, -1], [1, -1], [0.999995, -0.999995]], rtol=1e-6)
    assert out.dtype == np.float32


def test_batchnorm_of_many_rows_keeps_its_digits():
    x = np.repeat(np.where(np.arange(50_000) % 2, 1000, 1001).astype(np.float32)[:, None], 2, 1)
    out, saved = batchnorm(x, np.ones(2, np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(out[:2, 0], [0.99998, -0.99998], rtol=1e-4)
    ones, pair = np.ones((2**24 + 8, 2), np.float32), np.ones(2, np.float32)
    assert (batchnorm_vjp(ones, ones, pair, pair)[2] == len(ones)).all()


def test_the_running_mean_of_many_rows_keeps_its_digits():
    norm = BatchNorm(2, momentum=1.0)
    norm(Tensor(np.full((10**6, 2), 0.1, np.float32)), training=True)
    assert norm.mean[0] == pytest.approx(0.1, rel=1e-6)


def test_a_layernorm_without_bias_is_one_whose_bias_stays_zero():
    draw = np.random.default_rng(3)
    plain, bare = LayerNorm(5), LayerNorm(5, bias=False)
    assert list(bare.state_dict()) == ["gain"] and bare.bias is None
    plain.gain.data[:] = bare.gain.data[:] = draw.standard_normal(5)
    x = draw.standard_normal((2, 3, 5)).astype(np.float32)
    for norm in (plain, bare):
        (norm(Tensor(x)) * norm(Tensor(x))).sum().backward()
    assert np.array_equal(plain(Tensor(x)).data, bare(Tensor(x)).data)
    assert np.array_equal(plain.gain.grad, bare.gain.grad)
    assert LayerNorm(5, dtype=np.float64, bias=False)(Tensor(x.astype(float))).dtype == float


def test_eps_of_the_layer_is_used():
    x = Tensor(np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    assert abs(LayerNorm(4, eps=1.0)(x).data - LayerNorm(4)(x).data).max() > 0.1
