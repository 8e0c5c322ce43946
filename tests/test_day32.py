"""Day 32 · Residual streams and dropout: means kept, one gate both ways, gradients that arrive."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from days.day32.probes import (
    ByValues,
    averaging,
    by_length,
    coins,
    common,
    early,
    gains,
    rms,
    taken,
)
from days.day32.run import measure, typical, with_error
from days.day32.tower import C, Tower
from experiments.residual_causes import compared
from experiments.residual_order import Variants
from llm.functions.dropout import draw_kept, dropout, dropout_vjp
from llm.grad import ops
from llm.grad.check import check_pair
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
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


class Still(Module):
    """x -> the same numbers, whatever x is: a branch that passes no gradient."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __call__(self, x):
        return Tensor(self.numbers)


def back_and_forth(layers, x, dout):
    """Through the layers and back: (what comes out, what arrives at x), as arrays."""
    leaf = Tensor(x, requires_grad=True)
    out = leaf
    for layer in layers:
        out = layer(out)
    out.backward(dout)
    return out.data, leaf.grad


def test_the_example_by_hand_two_orders():
    norm, dout = LayerNorm(2, eps=0, dtype=np.float64), np.array([[1.0, 0]])
    stream = np.array([[1.0, 3]])                            # normed: [−1, 1]
    out, dx = back_and_forth([Residual(Scale(10), norm)], stream, dout)
    assert out.tolist() == [[-9, 13]] and dx.tolist() == [[1, 0]]
    out, dx = back_and_forth([Residual(Scale(10), norm, pre=False)], stream, dout)
    assert out == pytest.approx(np.array([[-1, 1]])) and dx == pytest.approx(np.zeros((1, 2)))


def test_the_example_by_hand_four_paths():
    first, second = (Residual(Scale(a), norm=Scale(1.0)) for a in (0.5, -0.25))
    _, dx = back_and_forth([first, second], np.ones((1, 1)), np.ones((1, 1)))
    assert dx[0, 0] == 1.125 == 1 + 0.5 - 0.25 - 0.125
    _, dx = back_and_forth([first.inner, second.inner], np.ones((1, 1)), np.ones((1, 1)))
    assert dx[0, 0] == -0.125


def test_the_example_by_hand_dropout():
    x, kept = np.array([1.0, 2, 3, 4]), np.array([True, False, True, False])
    out, saved = dropout(x, kept, 0.5)
    assert out.tolist() == [2, 0, 6, 0]
    assert dropout_vjp(np.ones(4), *saved)[0].tolist() == [2, 0, 2, 0]


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
    added = Residual(Scale(1.0), LayerNorm(8, dtype=np.float64), dropout=0.5)(x, rng).data - x.data
    branch = LayerNorm(8, dtype=np.float64)(x).data
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
    out = Residual(Scale(2.0), LayerNorm(32, dtype=np.float64), pre=False)(x).data
    assert out.mean(axis=-1) == pytest.approx(np.zeros(5), abs=1e-9)
    assert out.std(axis=-1) == pytest.approx(np.ones(5), rel=1e-4)


@pytest.mark.parametrize("kind", ["plain", "plain, normed", "post-norm", "pre-norm"])
def test_a_gradient_grows_going_down_as_the_stream_grew_going_up(rng, kind):
    width, M, g = 256, 12, 0.5                               # each branch: mean square g
    inner = [Linear(width, width, rng, std=(g / width)**0.5) for _ in range(M)]
    norm = LayerNorm(width)
    layers = {"plain": inner,
              "plain, normed": [lambda x, f=f: f(norm(x)) for f in inner],
              "post-norm": [Residual(f, norm, pre=False) for f in inner],
              "pre-norm": [Residual(f, norm) for f in inner]}[kind]
    x, dout = rng.standard_normal((2, 64, width)).astype(np.float32)
    out, dx = back_and_forth(layers, x, dout)
    expected = {"plain": g**(M / 2), "plain, normed": g**0.5, "post-norm": 1,
                "pre-norm": (1 + M * g)**0.5}[kind]
    assert rms(out) / rms(x) == pytest.approx(expected, rel=0.06)
    assert rms(dx) / rms(dout) == pytest.approx(expected, rel=0.06)


def test_a_post_norm_divides_the_identity_path_by_the_width_of_its_sum(rng):
    shape = (64, 512)                                        # stream and branch both 1 wide: √2
    draw = lambda: rng.standard_normal(shape).astype(np.float32)
    layers = [Residual(Still(draw()), LayerNorm(512), pre=False) for _ in range(10)]
    _, dx = back_and_forth(layers, draw(), dout := draw())
    assert rms(dx) / rms(dout) == pytest.approx(2**-5, rel=0.05)


@pytest.mark.parametrize("kind", ["pre-norm", "post-norm"])
def test_the_paths_of_all_lengths_add_up_to_the_gradient(rng, kind):
    model, ids = Tower(7, kind, rng, depth=6), rng.integers(7, size=(2, 2, 5))
    probes = [Tensor(np.zeros((2, 5, C), np.float32), requires_grad=True) for _ in range(7)]
    loss, _ = model.loss(*ids, probes)
    loss.backward()
    split = by_length(model, *ids)
    assert len(split) == 7 and all(np.abs(part).max() > 0 for part in split)
    assert split.sum(axis=0) == pytest.approx(probes[0].grad, rel=1e-4, abs=1e-7)


def test_paths_of_one_length_are_the_products_of_as_many_jacobians(rng):
    model, ids = Tower(7, "pre-norm", rng, depth=4), rng.integers(7, size=(2, 1, 3))
    for layer in model.layers:                               # x + xW: the Jacobian is W
        layer.norm, layer.inner = Scale(1.0), Linear(C, C, rng)
    split = by_length(model, *ids)
    top = split[0]                                           # the identity path: what set out
    for k in range(5):
        total = np.zeros_like(top)
        for some in itertools.combinations(model.layers[::-1], k):
            part = top
            for layer in some:
                part = part @ layer.inner.w.data.T
            total += part
        assert split[k] == pytest.approx(total, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("pre", [True, False])
def test_where_branches_are_random_and_wide_paths_are_as_long_as_coins_say(rng, pre):
    width, M = 256, 8
    layers = [Residual(Linear(width, width, rng), LayerNorm(width), pre=pre) for _ in range(M)]
    x, top = rng.standard_normal((2, 64, width)).astype(np.float32)
    streams = [x]
    for layer in layers:
        streams.append(layer(Tensor(streams[-1])).data)

    class Stack:
        def __init__(self):
            self.layers = layers

        def streams(self, ids):
            return [Tensor(s) for s in streams]

    model = Stack()
    squares = np.square(by_length(model, None, None, top), dtype=np.float64).mean(axis=(1, 2))
    share, expected = squares / squares.sum(), coins(taken(model, None))
    assert share @ np.arange(M + 1) == pytest.approx(expected @ np.arange(M + 1), rel=0.05)
    assert share == pytest.approx(expected, abs=0.02)


def test_gelu_lets_more_through_backward_than_forward_and_a_sine_far_more(rng):
    z = rng.standard_normal(200_000)
    leaf = Tensor(z, requires_grad=True)
    out = ops.gelu(leaf)
    out.sum().backward()
    assert rms(out.data)**2 == pytest.approx(0.425, rel=0.02)
    assert rms(leaf.grad)**2 == pytest.approx(0.456, rel=0.02)
    k = 50                                                   # exercise 2: f(x) = sin(kx)
    assert rms(np.sin(k * z))**2 == pytest.approx(0.5, rel=0.02)
    assert rms(k * np.cos(k * z))**2 == pytest.approx(k**2 / 2, rel=0.02)


def test_gains_of_random_layers_are_the_same_in_both_directions(rng):
    model, g = Tower(7, "pre-norm", rng, depth=3), 0.3
    for layer in model.layers:
        layer.inner = Linear(C, C, rng, std=(g / C)**0.5)
    ids, top = rng.integers(7, size=(40, 30)), rng.standard_normal((40, 30, C)).astype(np.float32)
    found = np.array(gains(model, ids, top))
    assert found[:, :2] == pytest.approx(np.full((3, 2), g), rel=0.2)
    assert common(top) == pytest.approx(1 / 30, rel=0.1)     # nothing in common, evenly spread
    assert found[2, 3] == early(top) == pytest.approx(3 / 30, rel=0.1)
    assert common(np.ones((2, 5, 3))) == 1 and found[0, 2] == pytest.approx(
        common(model.streams(ids)[0].data))
    assert (found[:, 4:] == 1).all()                         # these layers do not average
    model.layers[2].inner.w.data *= 2
    assert gains(model, ids, top)[2][:2] == pytest.approx([4 * g, 4 * g], rel=0.2)


def test_averaging_keeps_what_tokens_have_in_common_and_moves_gradients_to_the_front(rng):
    attention = MultiHeadAttention(C, 4, rng)
    attention.qkv.w.data[:] = 0                              # all scores equal: plain averages
    layer, T = Residual(ByValues(attention), Scale(1.0)), 16
    harmonic = (1 / np.arange(1, T + 1)).sum() / T
    x, dout = rng.standard_normal((2, 400, T, C)).astype(np.float32)
    assert averaging(layer, x, dout) == pytest.approx([harmonic, harmonic], rel=0.02)
    same = np.repeat(x[:, :1], T, axis=1)
    assert averaging(layer, same, dout)[0] == pytest.approx(1)
    front, back = dout.copy(), dout.copy()
    front[:, 1:], back[:, :-1] = 0, 0
    assert averaging(layer, x, front)[1] == pytest.approx(1)
    assert averaging(layer, x, back)[1] == pytest.approx(1 / T, rel=1e-4)


def test_typical_is_a_geometric_mean_place_by_place():
    assert typical([[1, 8.0], [4, 2]]) == pytest.approx([2, 4])
    assert typical([[0.0, 1], [5, 1]]) == [0, 1]
    assert with_error(np.array([2.0, 8])) == pytest.approx((4, 2))   # e^(ln 4 / √2 / √2)
    assert with_error(np.array([3.0])) == pytest.approx((3, 1))


def test_coins_and_the_share_a_branch_takes(rng):
    assert coins([0.5, 0.5]).tolist() == [0.25, 0.5, 0.25]
    p = rng.random(9)
    found = coins(p)
    assert found.sum() == pytest.approx(1) and found[0] == pytest.approx(np.prod(1 - p))
    assert found @ np.arange(10) == pytest.approx(p.sum())
    model = Tower(7, "post-norm", rng, depth=4)
    for layer in model.layers:                               # a branch as wide as its stream
        layer.inner = Scale(1.0)
    assert taken(model, rng.integers(7, size=(2, 5))) == pytest.approx([0.25] * 4)


def test_through_24_layers_the_gradient_arrives_only_along_a_residual_stream():
    result = measure(fast=True, seed=0)
    rows = {tower: row for tower, *row in result.rows}       # stream, gradient, path, expected
    assert rows["plain"][1] < 0.02 and rows["plain, small"][1] < 1e-12
    assert 2 < rows["pre-norm"][1] < 12                      # no less than the stream's growth
    assert all(0.9 < rows[f"{kind}, scaled"][1] < 1.5 for kind in ("pre-norm", "post-norm"))
    law = {kind: rest for kind, *rest in result.controls}
    loss, _, random, _, still, _, _, _, length, expected, _ = law["pre-norm"]
    assert 0.8 < still < 1.2 and still < random < loss       # the law holds where it is derived
    assert expected < length < 1.5 * expected
    assert 0.6 < law["post-norm"][4] < 1.6
    there, back, alike, first, up, down = np.array(result.gains)[::2].T   # attention, in order
    assert np.abs(there / up - 1).mean() < 0.2 and np.abs(back / down - 1).mean() < 0.2
    assert there[-1] > 2 * there[0] and back[-1] < 0.5 * back[0]
    assert alike[-1] > 2 * alike[0] and 0.12 < first[-1] < 0.13 < 0.2 < first[0]
    assert np.mean(result.gains[1::2], axis=0)[:2] == pytest.approx([0.5, 0.5], rel=0.1)
    assert len(result.gradients["pre-norm"]) == 25
    assert rows["pre-norm"][2] < 5 < 7 < rows["post-norm"][2]
    for tower in ("pre-norm", "post-norm", "pre-norm, scaled", "post-norm, scaled"):
        assert 0.9 < rows[tower][2] / rows[tower][3] < 1.7   # loss: a little longer than coins
    (_, s, g, *_), (_, wide, small, *_) = result.deep        # 6 and 12 layers
    assert wide > 1.2 * s and wide * small == pytest.approx(s * g, rel=0.15)
    rate, expected, moved, *_ = result.dropout[0]
    assert rate == 0.1 and moved == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("name", ["post-norm ÷ width", "post-norm ÷ width, by a constant"])
def test_divided_by_the_width_post_norm_starts_as_pre_norm(rng, name):
    post = Variants.tower(SimpleNamespace(V=7), name, 0)
    pre, ids = Tower(7, "pre-norm", np.random.default_rng(0)), rng.integers(7, size=(4, 16))
    expected = pre.norm(pre.streams(ids)[-1]).data
    assert rms(post.streams(ids)[-1].data - expected) < 0.45       # of 1: its widths are the law's
    plain = Tower(7, "post-norm", np.random.default_rng(0))
    assert rms(plain.streams(ids)[-1].data - expected) > 1


def test_a_mean_of_quotients_is_not_a_quotient_of_means():
    found = compared([(1, 0.5), (1, 1.5)])
    assert found["quotient"] == 1 and found["mean of quotients"] == pytest.approx(4 / 3)
    assert found["error"] == pytest.approx(0.5)                    # of two: |0.5| on both sides


def test_what_is_dropped_is_zero_even_if_it_was_infinite():
    kept = np.array([False, True])
    out, saved = dropout(np.array([np.inf, 1.0]), kept, 0.5)
    np.testing.assert_array_equal(out, [0, 2])
    np.testing.assert_array_equal(dropout_vjp(np.array([np.nan, 1.0]), *saved)[0], [0, 2])


@pytest.mark.parametrize("pre", [True, False])
def test_a_part_that_draws_gets_the_rng_first_and_no_other_part_gets_one(pre):
    class Draws(Module):
        draws = True

        def __call__(self, x, rng=None):
            return x if rng is None else x * float(rng.random())

    x = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    layer = Residual(Draws(), LayerNorm(8), pre=pre)
    factor = np.random.default_rng(5).random()
    scaled = Residual(Scale(factor), LayerNorm(8), pre=pre)          # which takes no rng
    assert layer(Tensor(x), np.random.default_rng(5)).data == pytest.approx(
        scaled(Tensor(x), np.random.default_rng(5)).data)
    assert layer(Tensor(x)).data == pytest.approx(
        Residual(Scale(1.0), LayerNorm(8), pre=pre)(Tensor(x)).data)


def test_post_norm_drops_too():
    rng = np.random.default_rng(0)
    layer = Residual(Linear(4, 4, rng), LayerNorm(4), dropout=0.5, pre=False)
    x = Tensor(rng.standard_normal((2, 4)).astype(np.float32))
    assert (layer(x, np.random.default_rng(1)).data != layer(x).data).any()
