"""Day 20 · Tests of initialisation: sizes through depth, in formulas and in networks."""

import importlib
import math

import numpy as np
import pytest

from days.day20 import depth
from days.day20.training import best_of
from llm.grad import rules
from llm.layers.init import (
    forecast,
    kaiming,
    keep,
    lecun,
    moments,
    orthogonal,
    residual,
    restart,
    xavier,
)
from llm.layers.module import Linear, Module
from llm.models.deep_window import DeepWindow

RELU, TANH, GELU = depth.RELU, depth.TANH, depth.GELU
SIGMOID = rules.sigmoid, rules.sigmoid_vjp
FLAGS = [(False, False), (True, False), (False, True), (True, True)]     # scaled, normed


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_sampling(activation, s, n=2_000_000):
    """E[f²] and E[f′²] from many normal numbers, the slope by finite differences."""
    z = math.sqrt(s) * np.random.default_rng(0).standard_normal(n)
    f = lambda x: activation[0](x)[0]
    return np.mean(f(z) ** 2), np.mean(((f(z + 1e-6) - f(z - 1e-6)) / 2e-6) ** 2)


def test_the_example_by_hand_one_layer_of_four_inputs():
    """Inputs 1, 2, −1, 0 have mean square 1.5; a weight of std 1/√4 brings sums of variance 1.5."""
    x = np.array([1.0, 2, -1, 0])
    w = lecun(4) * np.random.default_rng(0).standard_normal((4, 400_000))
    assert lecun(4) == 0.5 and np.mean(x**2) == 1.5
    assert np.mean((x @ w) ** 2) == pytest.approx(1.5, rel=.01)
    assert np.mean(np.maximum(x @ w, 0) ** 2) == pytest.approx(.75, rel=.01)


def test_the_standard_deviations_by_hand():
    assert xavier(30, 20) == pytest.approx(.2) and xavier(30, 20, 2.0) == pytest.approx(.4)
    assert kaiming(50) == pytest.approx(.2) and kaiming(100, 3.0) == pytest.approx(.3)
    assert residual(.02, 8) == pytest.approx(.005)
    for call in (lambda: lecun(0), lambda: xavier(3, 0), lambda: xavier(-1, 3),
                 lambda: residual(1.0, 0), lambda: orthogonal(0, 3, np.random.default_rng(0))):
        with pytest.raises(ValueError, match="must be 1 or more, not"):
            call()


@pytest.mark.parametrize("activation", [RELU, TANH, GELU, SIGMOID])
@pytest.mark.parametrize("s", [.01, 1.0, 9.0])
def test_moments_are_those_of_many_samples(activation, s):
    assert moments(activation, s) == pytest.approx(by_sampling(activation, s), rel=.01)


def test_moments_known_in_closed_form():
    """ReLU halves both; the identity keeps both; x² has E z⁴ = 3s² and E 4z² = 4s."""
    for s in (.25, 1.0, 16.0):
        assert moments(RELU, s) == pytest.approx((s / 2, .5), rel=1e-9)
        assert moments((lambda z: (z, ()), lambda d: (d,)), s) == pytest.approx((s, 1), rel=1e-9)
        square = (lambda z: (z * z, (z,)), lambda d, z: (2 * z * d,))
        assert moments(square, s) == pytest.approx((3 * s * s, 4 * s), rel=1e-9)
    assert moments(TANH, 0.0) == pytest.approx((0, 1))
    assert keep(RELU) == pytest.approx(math.sqrt(2))
    assert keep(TANH) == pytest.approx(1.5925, abs=1e-4)


@pytest.mark.parametrize("activation, gain", [(RELU, 1.0), (RELU, math.sqrt(2)), (TANH, 1.0),
                                              (TANH, 5 / 3), (GELU, 1.6)])
def test_wide_networks_do_what_the_forecast_says(activation, gain):
    """512 wide and 8 deep, the mean squares of 8 networks: 5·8/512 is the scatter of each."""
    found = [depth.signals(activation, gain, 8, 512, 8, np.random.default_rng(i))
             for i in range(8)]
    forward, backward = forecast(activation, gain, 8)
    assert np.mean([np.square(x) for x, _, _ in found], axis=0) == pytest.approx(forward, rel=.2)
    assert np.mean([np.square(d) for _, d, _ in found], axis=0) == pytest.approx(backward, rel=.2)


def test_gradients_of_the_measured_networks_are_true():
    """One input through 3 layers: the size of dL/dx is that by finite differences."""
    width, made = 6, []

    def make(gain, n, rng):
        made.append(depth.normal(gain, n, rng).astype(np.float64))
        return made[-1]

    _, sizes, _ = depth.signals(TANH, 1.5, 3, width, 1, np.random.default_rng(3), make)
    rng = np.random.default_rng(3)                       # the same numbers once more
    x = rng.standard_normal((1, width), np.float32).astype(np.float64)
    for _ in range(3):
        rng.standard_normal((width, width), np.float32)
    d = rng.standard_normal((1, width), np.float32)

    def loss(x):
        for w in made[:3]:
            x = np.tanh(x @ w)
        return float((x * d).sum())

    slopes = [(loss(x + h) - loss(x - h)) / 2e-5 for h in 1e-5 * np.eye(width)[:, None]]
    assert sizes[0] == pytest.approx(np.sqrt(np.mean(np.square(slopes))), rel=1e-4)


def test_tanh_at_gain_one_fades_like_one_over_twice_the_depth():
    forward, backward = forecast(TANH, 1.0, 400)
    assert forward[400] * 800 == pytest.approx(1, abs=.01)
    assert forward[50] * 100 == pytest.approx(1.02, abs=.01)
    assert backward[0] < .01 < backward[200]


def test_a_stable_signal_does_not_make_a_stable_gradient():
    """tanh at 5/3: E[f²] settles at 0.424, and each layer multiplies their squares by 1.21."""
    forward, backward = forecast(TANH, 5 / 3, 50)
    assert forward[20:] == pytest.approx(.4243, abs=1e-4)
    assert backward[20] / backward[21] == pytest.approx(1.21, abs=.001)
    assert backward[0] > 7000 and backward[-1] == 1


def test_gelu_has_a_fixed_point_from_which_it_runs_away():
    g = keep(GELU)
    at = moments(GELU, 1.0)[0]
    assert forecast(GELU, g, 30, at)[0] == pytest.approx(at, rel=1e-6)
    assert forecast(GELU, g, 30, .9 * at)[0][-1] < .5 * at
    assert forecast(GELU, g, 30, 1.1 * at)[0][-1] > 1.5 * at


def test_relu_with_five_over_the_width_scatters():
    ln = depth.scatter(64, 20, 400, np.random.default_rng(0))
    assert ln.std() == pytest.approx(math.sqrt(5 * 20 / 64), rel=.12)
    assert np.median(ln) == pytest.approx(-2.5 * 20 / 64, abs=.25)
    dead = depth.scatter(1, 40, 3, np.random.default_rng(0))
    assert dead.max() == -math.inf                         # a dead unit, and so a dead network
    spread = importlib.import_module("days.day20.run").spread
    assert spread(dead) == (0.0, 3)
    assert spread(np.array([1.0, -math.inf, 3.0])) == (pytest.approx(math.sqrt(2)), 1)


def test_of_a_scatter_of_five_rotations_leave_the_three_of_relu():
    """The scatter of the lengths of z is gone; what remains is which half ReLU keeps."""
    ln = depth.scatter(64, 20, 400, np.random.default_rng(0), depth.turned)
    assert ln.std() == pytest.approx(math.sqrt(3 * 20 / 64), rel=.12)
    assert np.median(ln) == pytest.approx(-1.5 * 20 / 64, abs=.25)


def test_measured_sizes_are_medians_over_networks():
    """Of three networks of ReLU; the mean of the three is another number."""
    seeds = lambda: [np.random.default_rng(i) for i in range(3)]
    found = [depth.signals(RELU, 1.0, 6, 8, 2, rng) for rng in seeds()]
    for i, sizes in enumerate(depth.middle(RELU, 1.0, 6, 8, 2, seeds())):
        assert sizes[-1] == sorted(one[i][-1] for one in found)[1] and len(sizes) == 7


def test_what_is_kept_in_float16_is_rounded_on_the_way_back():
    """Without the rounding no gradient would ever become 0, nor stop at the smallest number."""
    _, gradients, gone = depth.signals(TANH, .3, 30, 32, 4, np.random.default_rng(0),
                                       dtype=np.float16)
    assert gradients[0] == 0 and gone == 1


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1)])
def test_orthogonal_matrices(shape, rng):
    w = orthogonal(*shape, rng, 1.5, np.float64)
    cin, cout = shape
    assert w.shape == shape and np.mean(w**2) == pytest.approx(1.5**2 / cin)
    short = w.T @ w if cin >= cout else w @ w.T
    assert short == pytest.approx(np.diag(np.diag(short)), abs=1e-12)
    assert np.diag(short) == pytest.approx(short[0, 0])
    assert orthogonal(*shape, rng).dtype == np.float32


def test_random_rotations_prefer_no_direction():
    """Without a correction of signs QR gives first entries of one sign only."""
    first = [orthogonal(4, 4, np.random.default_rng(i))[0, 0] for i in range(200)]
    assert abs(np.mean(first)) < .12


@pytest.mark.parametrize("flags", FLAGS)
def test_residual_streams_grow_as_forecast(flags):
    run = importlib.import_module("days.day20.run")
    found = [depth.branches(256, 6, 16, *flags, np.random.default_rng(i))[-1] for i in range(4)]
    assert np.mean(found) == pytest.approx(run.stream_forecast(6, *flags), rel=.12)


def test_residual_forecasts_by_hand():
    run = importlib.import_module("days.day20.run")
    assert [run.stream_forecast(2, *flags) for flags in FLAGS] == pytest.approx(
        [4, (5 / 4) ** 2, math.sqrt(5), math.sqrt(2)])


def test_half_precision_overflows_and_underflows():
    first, last, gone = depth.half(RELU, 4.0, 20, 64, 4, np.random.default_rng(0))
    assert 8 < first < 16 and last is None and gone is None     # 65,504 is 2^16, and √8 a layer
    sizes, _, _ = depth.signals(RELU, 4.0, 20, 64, 4, np.random.default_rng(0), dtype=np.float16)
    assert np.isfinite(sizes[first - 1]) and not np.isfinite(sizes[first])
    first, last, gone = depth.half(RELU, .7, 30, 64, 4, np.random.default_rng(0))
    assert first is None and last < 1e-6 and gone > .5
    assert depth.half(RELU, math.sqrt(2), 20, 64, 4, np.random.default_rng(0))[2] == 0


def test_restart_draws_matrices_only_and_all_of_them(rng):
    model = DeepWindow(50, 4, 8, 32, 3, rng)
    before = {name: p.data.copy() for name, p in model.named_parameters().items()}
    told = []
    restart(model, rng, lambda path, cin, cout: told.append((path, cin, cout)) or xavier(cin, cout))
    assert told == [("layers.0.w", 32, 32), ("layers.1.w", 32, 32), ("layers.2.w", 32, 32),
                    ("out.w", 32, 50)]
    for name, p in model.named_parameters().items():
        assert (p.data == before[name]).all() == (not name.endswith(".w"))
        assert p.data.dtype == np.float32
    assert model.out.w.data.std() == pytest.approx(xavier(32, 50), rel=.1)
    with pytest.raises(ValueError, match="not a list"):
        restart([model], rng, lambda *_: 1.0)


def test_restart_leaves_what_is_no_matrix(rng):
    class Odd(Module):
        def __init__(self):
            self.w = Linear(3, 4, rng).b                   # one-dimensional, though it is named w
            self.new = Linear(3, 4, rng).w                 # its name ends in w and is another one

    odd = Odd()
    before = odd.new.data.copy()
    restart(odd, rng, lambda *_: 1.0)
    assert (odd.w.data == 0).all() and (odd.new.data == before).all()


def test_the_best_rate_is_told_with_its_spread_and_its_place():
    found = {.1: [2.0, 2.2], .2: [1.0, 1.4], .3: [3.0, 3.0]}
    assert best_of(found, [.1, .2, .3]) == [.2, 1.2, pytest.approx(.2 * math.sqrt(2)), False]
    assert best_of(found, [.2, .3])[3] and not best_of({.1: [1.0]}, [.1])[2]


def test_headline_signals_stay_and_gradients_do_not():
    run = importlib.import_module("days.day20.run")
    result = run.measure(fast=True, seed=0)
    sizes = {(kind, round(gain, 2)): row for kind, gain, *row in result.sizes}
    last, _, first, _ = sizes["tanh", 1.67]
    assert .4 < last < .9 and first > 1.2
    assert sizes["ReLU", 1.0][0] < .1 < 10 < sizes["ReLU", 2.0][0]
    assert "grow 2-fold" in run.title(result)
