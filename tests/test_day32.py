"""Day 32 · Residual streams and dropout: means kept, one gate both ways, gradients that arrive."""

import numpy as np
import pytest

from days.day32.run import measure
from llm.functions.dropout import draw_kept, dropout, dropout_vjp
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor
from llm.layers.module import Linear, Module
from llm.layers.norm import LayerNorm
from llm.layers.residual import Dropout, Residual


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Scale(Module):
    """x -> factor · x."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


def test_the_example_by_hand():
    x, kept = np.array([1.0, 2, 3, 4]), np.array([True, False, True, False])
    out, saved = dropout(x, kept, 0.5)
    assert out.tolist() == [2, 0, 6, 0]
    assert dropout_vjp(np.ones(4), *saved)[0].tolist() == [2, 0, 2, 0]
    stream = Tensor(np.array([[1.0, 3.0]]))
    norm = LayerNorm(2, eps=0)                               # [1, 3] becomes [−1, 1]
    assert Residual(Scale(10), norm)(stream).data.tolist() == [[-9, 13]]
    assert Residual(Scale(10), norm, pre=False)(stream).data == pytest.approx(
        np.array([[-1, 1]]))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_mean_of_each_number_is_kept(rng, rate):
    x = np.array([1.0, -2, 3, 0])
    draws = np.array([dropout(x, draw_kept(x.shape, rate, rng), rate)[0] for _ in range(20_000)])
    spread = np.abs(x) * np.sqrt(rate / (1 - rate))          # of one draw
    assert (np.abs(draws.mean(axis=0) - x) <= 5 * spread / np.sqrt(20_000) + 1e-12).all()
    assert draws.std(axis=0) == pytest.approx(spread, rel=0.05, abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_a_share_of_rate_is_dropped(rng, rate):
    kept = draw_kept((200, 500), rate, rng)
    assert kept.dtype == bool
    assert 1 - kept.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / 1e5))


def test_gradients_pass_the_gate_that_the_forward_passed(rng):
    x = Tensor(rng.standard_normal((50, 40)).astype(np.float32), requires_grad=True)
    out = Dropout(0.3)(x, rng)
    out.sum().backward()
    assert ((out.data == 0) == (x.grad == 0)).all()
    assert x.grad[x.grad != 0] == pytest.approx(1 / 0.7)
    assert out.dtype == x.grad.dtype == np.float32


def test_the_backward_is_the_gradient(rng):
    kept = draw_kept((3, 5), 0.4, rng)
    check_pair(dropout, dropout_vjp, rng.standard_normal((3, 5)), kept, rng=rng, rate=0.4)


def test_without_an_rng_dropout_is_the_identity(rng):
    x = Tensor(rng.standard_normal((4, 5)))
    assert Dropout(0.5)(x) is x and Dropout(0.0)(x, rng) is x
    assert (Dropout(0.5)(x, rng).data != x.data).any()


def test_the_same_rng_gives_the_same_gate_and_goes_on_to_the_next(rng):
    x = Tensor(np.ones((8, 8)))
    draw = lambda generator: Dropout(0.5)(x, generator).data
    assert (draw(np.random.default_rng(3)) == draw(np.random.default_rng(3))).all()
    assert (draw(rng) != draw(rng)).any()


@pytest.mark.parametrize("rate", [1.0, -0.1, 1.5, float("nan")])
def test_rates_outside_0_to_1_are_refused(rng, rate):
    for make in (lambda: Dropout(rate), lambda: draw_kept((2,), rate, rng)):
        with pytest.raises(ValueError, match=r"rate lies in \[0, 1\)"):
            make()


def test_a_gate_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) with kept \(3,\)"):
        dropout(np.zeros((2, 3)), np.ones(3, bool), 0.5)


def test_dropout_falls_on_what_is_added_never_on_the_stream(rng):
    x = Tensor(rng.standard_normal((30, 8)))
    added = Residual(Scale(1.0), LayerNorm(8), dropout=0.5)(x, rng).data - x.data
    branch = LayerNorm(8)(x).data
    dropped = np.isclose(added, 0, atol=1e-12)
    assert 0.3 < dropped.mean() < 0.7
    assert added[~dropped] == pytest.approx(2 * branch[~dropped])


@pytest.mark.parametrize("pre", [True, False])
def test_both_orders_equal_their_formula_and_give_every_part_a_gradient(rng, pre):
    inner, norm = Linear(6, 6, rng), LayerNorm(6)
    x = Tensor(rng.standard_normal((2, 3, 6)).astype(np.float32), requires_grad=True)
    residual = Residual(inner, norm, pre=pre)
    expected = x + inner(norm(x)) if pre else norm(x + inner(x))
    out = residual(x)
    assert (out.data == expected.data).all()
    (out * Tensor(rng.standard_normal(out.shape).astype(np.float32))).sum().backward()
    assert all(p.grad is not None for p in [x, *residual.named_parameters().values()])
    assert set(residual.named_parameters()) == {"norm.gain", "norm.bias", "inner.w", "inner.b"}


def test_a_pre_norm_branch_that_is_zero_leaves_stream_and_gradient_untouched(rng):
    x = Tensor(rng.standard_normal((2, 4)).astype(np.float32), requires_grad=True)
    deep = x
    for _ in range(100):
        deep = Residual(Scale(0.0), LayerNorm(4))(deep)
    assert (deep.data == x.data).all()
    deep.backward(np.full((2, 4), 3.0))
    assert (x.grad == 3).all()


def test_a_post_norm_stream_always_has_mean_0_and_variance_1(rng):
    x = Tensor(100 + 7 * rng.standard_normal((5, 32)))
    out = Residual(Scale(2.0), LayerNorm(32), pre=False)(x).data
    assert out.mean(axis=-1) == pytest.approx(np.zeros(5), abs=1e-9)
    assert out.std(axis=-1) == pytest.approx(np.ones(5), rel=1e-4)


def test_through_24_layers_the_gradient_arrives_only_along_a_residual_stream():
    result = measure(fast=True, seed=0)
    ratio = {row[0]: row[1:3] for row in result.rows}        # first layer's gradient / last layer's
    assert ratio["plain"][0] < 0.02 and ratio["plain"][1] < 1e-12
    assert all(0.2 < x < 50 for x in ratio["pre-norm"])      # however the weights start
    assert len(result.gradients["pre-norm"]) == 25
