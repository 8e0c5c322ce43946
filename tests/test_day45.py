"""Day 45 · INT4, GPTQ and AWQ: the grid, the surgeon, the scales, and the kernel."""

from dataclasses import replace

import numpy as np
import pytest

from days.day45.capture import listen, listen_at_head
from days.day45.models import louder, names, scaled, with_groups
from days.day45.run import measure, table
from days.day45.score import mean_and_error, prices, windows
from llm.generate import decode as decoding
from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.kernels import int4 as kernel
from llm.kernels.int4 import INT4, groups_of, tile
from llm.kernels.matvec import FLOAT32, Packed, R, aligned, scratch, tiles
from llm.quantize.awq import ALPHAS, LEAST, awq, divide_outputs, input_scales
from llm.quantize.gptq import damped, gptq, hessian, inverse_root, layer_error, surgeon
from llm.quantize.int4 import Groups, grid, grids, nearest, quantise


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def matrix(rng, K, N):
    return rng.standard_normal((K, N), np.float32)


def correlated(rng, n, K):
    """Inputs of a few causes and some noise, with sizes from small to large."""
    causes = rng.standard_normal((n, max(1, K // 4)))
    x = causes @ rng.standard_normal((max(1, K // 4), K)) + 0.3 * rng.standard_normal((n, K))
    return x * np.exp(rng.standard_normal(K))


def multiply(data, x, N, first=0, last=None, fill=7):
    """y = W x through the format's own functions, work full of rubbish before."""
    y, work = np.full(R * tiles(N), fill, np.float32), aligned(scratch(x.size))
    work[:] = 255
    INT4.prepare(x, work)
    INT4.rows(data, x, work, y, x.size, first, tiles(N) if last is None else last)
    return y


def slowly(w, H, scale, minimum, group, bits, order):
    """GPTQ as it is derived: after each weight the Hessian of those that are left is inverted."""
    w, left, q = np.array(w, np.float64), list(order), np.zeros(w.shape, np.uint8)
    for k in order:
        q[k] = nearest(w[k], scale[k // group], minimum[k // group], bits)
        fixed = scale[k // group] * q[k] + minimum[k // group]
        for n in range(w.shape[1]):
            part, _ = surgeon(w[left, n], H[np.ix_(left, left)], left.index(k), fixed[n])
            w[left, n] = part
        left.remove(k)
    return q


# ---- by hand

def test_the_example_by_hand_a_group_of_three():
    w = np.array([[-1], [0.3], [2.75]], np.float32)
    g = quantise(w)
    assert g.scale.tolist() == [[0.25]] and g.minimum.tolist() == [[-1]]
    assert g.q[:, 0].tolist() == [0, 5, 15] and g.dense()[:, 0].tolist() == [-1, 0.25, 2.75]
    g = quantise(w, symmetric=True)
    assert g.scale.tolist() == [[-0.34375]] and g.q[:, 0].tolist() == [11, 7, 0]
    assert g.dense()[:, 0].tolist() == [-1.03125, 0.34375, 2.75]


def test_the_example_by_hand_one_weight_down_the_other_up():
    H = np.array([[1, 0.9], [0.9, 1]])
    w, cost = surgeon(np.array([0.4, 0.4]), H, 0, 0.0)
    assert w == pytest.approx([0, 0.76]) and cost == pytest.approx(0.0152)
    U = inverse_root(H)
    assert pytest.approx(np.array([[2.294157, -2.064742], [0, 1]]), abs=1e-6) == U
    full = np.eye(4)
    full[2:, 2:] = H
    w = np.array([[0], [1], [0.4], [0.4]], np.float32)
    plain, better = quantise(w, 4, 1), gptq(w, full, 4, 1, damp=0, block=4)
    assert plain.q[:, 0].tolist() == [0, 1, 0, 0] and better.q[:, 0].tolist() == [0, 1, 0, 1]
    assert layer_error(w, plain.dense(), full) == pytest.approx(0.304)
    assert layer_error(w, better.dense(), full) == pytest.approx(0.0152 + 0.0288)


def test_the_example_by_hand_a_loud_input_gets_a_finer_weight():
    w, mean = np.array([[0], [1], [0.4]], np.float32), np.array([1, 4, 16])
    H = np.diag(2.0 * mean ** 2)
    assert input_scales([1, 4, 16], 0.5).tolist() == [0.5, 1, 2]
    found = awq(w, H, mean, (0, 0.5), group=3, bits=1)
    assert found.alpha == 0.5 and found.s.tolist() == [0.5, 1, 2]
    assert found.dense()[:, 0].tolist() == [0, 1, 0.5]
    assert found.errors == pytest.approx((40.96, 2.56))


# ---- the grid

@pytest.mark.parametrize("K, N, group, bits", [(1, 1, 32, 4), (64, 5, 32, 4), (70, 9, 32, 4),
                                               (33, 3, 32, 3), (30, 4, 7, 2), (5, 2, 1, 8)])
def test_a_weight_moves_by_at_most_half_a_step_and_the_rounding_of_its_scale(rng, K, N, group,
                                                                            bits):
    w = matrix(rng, K, N) + 0.5
    g = quantise(w, group, bits)
    top = 2 ** bits - 1
    assert g.q.dtype == np.uint8 and g.q.max() <= top and g.scale.shape == (-(-K // group), N)
    assert g.scale.dtype == g.minimum.dtype == g.dense().dtype == np.float32
    assert (g.scale.astype(np.float16) == g.scale).all()
    of = np.arange(K) // group
    bound = g.scale / 2 + 2.0 ** -11 * (np.abs(g.minimum) + 2 * top * g.scale) + 1e-6
    assert (np.abs(g.dense() - w) <= bound[of]).all()
    for k in range(K):
        for n in range(N):
            points = g.scale[of[k], n] * np.arange(top + 1) + g.minimum[of[k], n]
            assert np.abs(points - w[k, n]).min() == pytest.approx(
                abs(g.dense()[k, n] - w[k, n]), abs=1e-6)


def test_a_symmetric_grid_has_zero_and_the_largest_weight(rng):
    w = matrix(rng, 40, 6)
    w[3], w[35] = 0, 0
    g = quantise(w, symmetric=True)
    dense = g.dense()
    assert (dense[3] == 0).all() and (g.q[3] == 8).all() and (g.minimum == -8 * g.scale).all()
    for first, last in ((0, 32), (32, 40)):
        peak = np.abs(w[first:last]).argmax(axis=0)
        for n in range(6):
            assert dense[first + peak[n], n] == pytest.approx(w[first + peak[n], n], rel=2 ** -10)
    assert (np.abs(dense - w) <= (np.abs(g.scale) * 1.01)[np.arange(40) // 32]).all()
    three = quantise(w, symmetric=True, bits=3)
    assert (three.q[3] == 4).all() and (three.dense()[3] == 0).all() and three.q.max() <= 7


def test_equal_weights_zeros_and_tiny_ones_are_safe():
    for value in (0.0, 0.5, -3.0):
        for symmetric in (False, True):
            g = quantise(np.full((33, 2), value, np.float32), symmetric=symmetric)
            assert g.dense() == pytest.approx(np.full((33, 2), value), rel=2 ** -11)
    tiny = quantise(np.array([[0], [1e-9]], np.float32))
    assert (tiny.scale == 0).all() and (tiny.q == 0).all() and (tiny.dense() == 0).all()


def test_bits_are_counted_with_their_scales(rng):
    assert quantise(matrix(rng, 64, 3)).stored_bits() == 5
    assert quantise(matrix(rng, 33, 3)).stored_bits() == pytest.approx(4 + 64 / 33)
    assert quantise(matrix(rng, 128, 3), 128, 3).stored_bits() == 3.25


def test_what_cannot_be_quantised_is_told(rng):
    for wrong in (np.zeros(3), np.zeros((0, 3)), np.zeros((2, 3, 4))):
        for f in (quantise, lambda w: gptq(w, np.eye(2)), lambda w: awq(w, np.eye(2), np.ones(2))):
            with pytest.raises(ValueError, match=rf"shape \({wrong.shape[0]}"):
                f(wrong)
    for value in (np.inf, np.nan):
        w = matrix(rng, 4, 4)
        w[1, 2] = value
        with pytest.raises(ValueError, match=r"\(4, 4\) with infinite"):
            quantise(w)
        with pytest.raises(ValueError, match=r"\(4, 4\) does not fit INT4"):
            INT4.pack(w)
    for f in (quantise, INT4.pack):
        with pytest.raises(ValueError, match="float16"):
            f(np.array([[-1e5], [1]], np.float32))
        with pytest.raises(ValueError, match="float16"):
            f(np.array([[0], [2e6]], np.float32))
    with pytest.raises(ValueError, match="groups of 0 in 4 bits"):
        quantise(matrix(rng, 4, 4), 0)
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"groups of 32 in {bits} bits"):
            quantise(matrix(rng, 4, 4), bits=bits)
    with pytest.raises(ValueError, match="3 bits in groups of 32 have no kernel"):
        quantise(matrix(rng, 4, 4), bits=3).packed()
    with pytest.raises(ValueError, match="4 bits in groups of 16 have no kernel"):
        quantise(matrix(rng, 4, 4), 16).packed()


# ---- the surgeon and GPTQ

def test_the_surgeon_equals_least_squares_with_a_constraint(rng):
    """The same minimum from the equations with Lagrange's multiplier, solved as they stand."""
    for K in (1, 2, 5, 17):
        X = correlated(rng, 3 * K + 5, K)
        H, w = hessian(X), rng.standard_normal(K)
        for k in {0, K // 2, K - 1}:
            value = float(np.rint(w[k]))
            e = np.zeros((K, 1))
            e[k] = 1
            system = np.block([[H, e], [e.T, np.zeros((1, 1))]])
            delta = np.linalg.solve(system, [*np.zeros(K), value - w[k]])[:K]
            moved, cost = surgeon(w, H, k, value)
            assert moved == pytest.approx(w + delta, abs=1e-8) and moved[k] == value
            assert cost == pytest.approx(0.5 * delta @ H @ delta, rel=1e-6, abs=1e-12)
            outputs = X @ (w - moved)                        # and in terms of outputs
            assert cost == pytest.approx(outputs @ outputs / len(X), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("K, N, group", [(1, 1, 32), (12, 3, 4), (40, 2, 32)])
def test_gptq_equals_the_surgeon_applied_again_and_again(rng, K, N, group, act_order):
    w, H = matrix(rng, K, N), damped(hessian(correlated(rng, 60, K)), 0.01)
    found = gptq(w, H, group, damp=0, block=8, act_order=act_order, static=True)
    order = np.argsort(-H.diagonal(), kind="stable") if act_order else np.arange(K)
    scale, minimum = grids(w, group)
    assert (found.scale == scale).all() and (found.minimum == minimum).all()
    assert (found.q == slowly(w, H, scale, minimum, group, 4, order)).all()


def test_the_root_of_the_inverse_holds_every_elimination(rng):
    H = damped(hessian(correlated(rng, 40, 9)), 0.01)
    U = inverse_root(H)
    assert (np.tril(U, -1) == 0).all() and pytest.approx(np.linalg.inv(H), rel=1e-6) == U.T @ U
    for k in range(9):
        left = np.linalg.inv(H[k:, k:])
        assert U[k, k:] / U[k, k] == pytest.approx(left[0] / left[0, 0], rel=1e-6)
        assert U[k, k] ** 2 == pytest.approx(left[0, 0], rel=1e-6)


def test_blocks_change_nothing_and_errors_add_up(rng):
    w, H = matrix(rng, 75, 6), damped(hessian(correlated(rng, 200, 75)), 0.01)
    one = gptq(w, H, 16, damp=0, block=16)
    for block in (32, 64, 80, 160):
        other = gptq(w, H, 16, damp=0, block=block)
        assert (other.q == one.q).all() and (other.scale == one.scale).all()
    a, b = (gptq(w, H, 16, damp=0, block=block, static=True) for block in (1, 128))
    assert (a.q == b.q).all()
    # 0.5 Σ (gap / U[k, k])² over the way is the whole error: each step's cost is final
    order_cost, left = 0.0, np.array(w, np.float64)
    U, fixed = inverse_root(H), a.dense().astype(np.float64)
    for k in range(75):
        gap = (left[k] - fixed[k]) / U[k, k]
        order_cost += 0.5 * float(gap @ gap)
        left[k:] -= np.outer(U[k, k:], gap)
    assert order_cost == pytest.approx(layer_error(w, fixed, H), rel=1e-6)


def test_gptq_beats_rounding_on_the_layers_error():
    """Thirty seeds, each with other weights, inputs and shapes; also on inputs not seen before."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        K, N = int(rng.integers(20, 70)), int(rng.integers(8, 24))
        causes = rng.standard_normal((K // 4, K))
        draw = lambda n: (rng.standard_normal((n, K // 4)) @ causes    # noqa: B023
                          + 0.5 * rng.standard_normal((n, K)))         # noqa: B023
        w, H, new = matrix(rng, K, N), hessian(draw(2000)), hessian(draw(1000))
        for symmetric in (False, True):
            plain = quantise(w, symmetric=symmetric).dense()
            for settings in ({}, {"act_order": True}, {"static": True}):
                better = gptq(w, H, symmetric=symmetric, **settings).dense()
                assert layer_error(w, better, H) < 0.8 * layer_error(w, plain, H), (seed, settings)
                assert layer_error(w, better, new) < layer_error(w, plain, new), (seed, settings)


@pytest.mark.parametrize("settings", [{}, {"static": True}, {"act_order": True}, {"damp": 0},
                                      {"symmetric": True}, {"bits": 3, "group": 16}])
def test_inputs_without_correlation_leave_rounding_to_nearest(rng, settings):
    w = matrix(rng, 70, 5)
    only = {k: v for k, v in settings.items() if k in ("symmetric", "bits", "group")}
    plain = quantise(w, **only)
    for H in (np.eye(70), 3 * np.eye(70), np.diag(rng.random(70) + 0.1), np.zeros((70, 70))):
        found = gptq(w, H, **settings)
        assert (found.q == plain.q).all() and (found.scale == plain.scale).all()
        assert (found.minimum == plain.minimum).all() and found.q.dtype == np.uint8
        assert (found.group, found.bits) == (plain.group, plain.bits)


def test_inputs_never_seen_are_safe_and_rounded_to_nearest(rng):
    x = correlated(rng, 300, 40)
    x[:, [0, 7, 39]] = 0
    w, H = matrix(rng, 40, 6), hessian(x)
    for settings in ({"static": True}, {"act_order": True}):
        found, plain = gptq(w, H, **settings), quantise(w)
        assert (found.q[[0, 7, 39]] == plain.q[[0, 7, 39]]).all()
        assert layer_error(w, found.dense(), H) < layer_error(w, plain.dense(), H)
    H = damped(H, 0.5)
    assert H.diagonal()[[0, 7, 39]].tolist() == [1, 1, 1]
    one = hessian(np.ones((3, 4)))                        # one token's worth: rank 1
    assert damped(one, 0.5) == pytest.approx(2 + np.eye(4))
    assert layer_error(w[:4], gptq(w[:4], one).dense(), one) < layer_error(
        w[:4], quantise(w[:4]).dense(), one)
    with pytest.raises(ValueError, match=r"\(4, 4\) is singular"):
        gptq(w[:4], one, damp=0)
    mixed = damped(np.diag([2.0, 0, 4]), 0.1)             # the mean is over the inputs seen
    assert mixed.diagonal() == pytest.approx([2.3, 1, 4.3])


def test_act_order_is_a_permutation_undone_exactly(rng):
    """Inputs in another order, weights too: the same result in that order."""
    K = 32
    w, H = matrix(rng, K, 5), hessian(correlated(rng, 200, K))
    found, p = gptq(w, H, act_order=True), rng.permutation(K)
    other = gptq(w[p], H[np.ix_(p, p)], act_order=True)
    assert (other.q == found.q[p]).all() and (other.scale == found.scale).all()
    order = np.argsort(-H.diagonal())
    by_hand = gptq(w[order], H[np.ix_(order, order)], static=True)
    assert (by_hand.q == found.q[order]).all()
    assert (np.diff(H.diagonal()[order]) <= 0).all() and (order != np.arange(K)).any()


def test_a_group_takes_its_grid_from_the_weights_as_they_stand(rng):
    w, H = matrix(rng, 64, 5), hessian(correlated(rng, 200, 64))
    found, fixed = gptq(w, H), gptq(w, H, static=True)
    assert (found.scale[0] == fixed.scale[0]).all() and (found.scale[1] != fixed.scale[1]).any()
    scale, minimum = grids(w)
    assert (fixed.scale == scale).all() and (fixed.minimum == minimum).all()
    left = np.array(w, np.float64)                       # the second group after the first's errors
    U = inverse_root(damped(H, 0.01))
    for k in range(32):
        gap = (left[k] - found.dense()[k]) / U[k, k]
        left[k:] -= np.outer(U[k, k:], gap)
    scale, minimum = grid(left[32:])
    assert found.scale[1] == pytest.approx(scale) and found.minimum[1] == pytest.approx(minimum)


def test_a_hessian_is_made_of_inputs_and_checked(rng):
    x = matrix(rng, 6, 3)
    H = hessian(x)
    assert H.dtype == np.float64 and pytest.approx(2 * x.T.astype(float) @ x / 6) == H
    w, other = matrix(rng, 3, 2), matrix(rng, 3, 2)
    assert layer_error(w, other, H) == pytest.approx(((x @ (w - other)) ** 2).sum() / 6, rel=1e-5)
    for wrong in (np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(ValueError, match=r"inputs \("):
            hessian(wrong)
    for wrong in (np.eye(4), np.zeros(3), np.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"\(3, 2\) want a Hessian \(3, 3\)"):
            gptq(w, wrong)
    for wrong in (np.zeros(3), np.zeros((3, 2)), np.zeros((2, 2, 2))):
        with pytest.raises(ValueError, match="is not square"):
            damped(wrong)
    for wrong, damp in ((np.full((3, 3), np.nan), 0.1), (-np.eye(3), 0.1), (np.eye(3), -0.1),
                        (np.eye(3), np.nan)):
        with pytest.raises(ValueError, match=r"\(3, 3\) must be finite"):
            gptq(w, wrong, damp=damp)
    with pytest.raises(ValueError, match="use static grids"):
        gptq(w, H, act_order=True, static=False)
    for block, settings in ((0, {"static": True}), (33, {}), (16, {})):
        with pytest.raises(ValueError, match=f"blocks of {block} inputs must be a multiple"):
            gptq(w, H, block=block, **settings)
    before = w.copy(), H.copy()
    gptq(w, H, act_order=True)
    gptq(w, H, block=32)
    assert (w == before[0]).all() and (before[1] == H).all()
    default = damped(H)
    assert default == pytest.approx(H + 0.01 * H.diagonal().mean() * np.eye(3))
    assert (gptq(w, H).q == gptq(w, default, damp=0).q).all()


# ---- AWQ

def test_scaling_weights_up_and_inputs_down_changes_nothing(rng):
    w, x, s = rng.standard_normal((7, 5)), rng.standard_normal((4, 7)), np.exp(
        rng.standard_normal(7))
    assert (x / s) @ (s[:, None] * w) == pytest.approx(x @ w)
    gain, bias = rng.standard_normal(7), rng.standard_normal(7)
    assert x * divide_outputs(gain, s) + divide_outputs(bias, s) == pytest.approx(
        (x * gain + bias) / s)
    before = rng.standard_normal((3, 9))                # outputs 2 … 8 of another linear layer
    y = rng.standard_normal((4, 3))
    folded = y @ divide_outputs(before, s, 2)
    assert folded[:, 2:] == pytest.approx((y @ before)[:, 2:] / s)
    assert folded[:, :2] == pytest.approx((y @ before)[:, :2])
    copied = gain.copy()
    divide_outputs(gain, s)
    assert (gain == copied).all()
    for array, first in ((gain[:6], 0), (before, 3), (before, -1)):
        with pytest.raises(ValueError, match=rf"it has {array.shape[-1]}"):
            divide_outputs(array, s, first)


def test_awq_takes_the_best_alpha_and_alpha_zero_is_rounding(rng):
    x = correlated(rng, 300, 64)
    w, H, mean = matrix(rng, 64, 20), hessian(x), np.abs(x).mean(axis=0)
    found, plain = awq(w, H, mean), quantise(w)
    assert len(found.errors) == len(ALPHAS) == 21 and ALPHAS[0] == 0 and ALPHAS[-1] == 1
    assert found.errors[0] == layer_error(w, plain.dense(), H)
    assert found.alpha == ALPHAS[int(np.argmin(found.errors))] > 0
    assert min(found.errors) < 0.8 * found.errors[0]
    assert min(found.errors) == layer_error(w, found.dense(), H)
    assert (found.groups.q == quantise(found.s[:, None] * w).q).all()
    assert found.s == pytest.approx(input_scales(mean, found.alpha))
    assert found.dense().dtype == np.float32
    none = awq(w, H, mean, (0,))
    assert (none.s == 1).all() and (none.groups.q == plain.q).all() and none.alpha == 0
    three = awq(w, H, mean, (0.5,), 16, 3, True)
    assert (three.groups.q == quantise(three.s[:, None] * w, 16, 3, True).q).all()
    assert awq(w, H, np.ones(64), (0.3, 0.7)).alpha == 0.3       # of two equal ones the first


def test_scales_lie_around_one_and_inputs_never_seen_are_safe(rng):
    mean = rng.random(9) + 0.1
    s = input_scales(mean, 0.7)
    assert s.dtype == np.float32 and s.max() * s.min() == pytest.approx(1, rel=1e-5)
    assert s / s[0] == pytest.approx((mean / mean[0]) ** 0.7, rel=1e-5)
    assert (input_scales(mean, 0) == 1).all() and (input_scales(np.zeros(3), 0.5) == 1).all()
    mean[4] = 0
    s = input_scales(mean, 1)
    assert s.argmin() == 4 and s[4] / s.max() == pytest.approx(LEAST) and LEAST == 1e-4
    x = correlated(rng, 50, 9)
    x[:, 4] = 0
    w = matrix(rng, 9, 3)
    for data in (x, np.zeros((5, 9))):
        found = awq(w, hessian(data), np.abs(data).mean(axis=0))
        assert np.isfinite(found.dense()).all() and np.isfinite(found.errors).all()
    for wrong in (-np.ones(3), np.array([1, np.nan]), np.array([1, np.inf]), np.ones((2, 2))):
        with pytest.raises(ValueError, match="mean sizes of inputs"):
            input_scales(wrong, 0.5)
    for H, mean in ((np.eye(8), np.ones(9)), (np.eye(9), np.ones(8))):
        with pytest.raises(ValueError, match=r"\(9, 3\) want a Hessian \(9, 9\) and means \(9,\)"):
            awq(w, H, mean)
    with pytest.raises(ValueError, match="no alpha"):
        awq(w, np.eye(9), np.ones(9), ())


# ---- the kernel

SHAPES = [(1, 1), (16, 3), (17, 64), (31, 65), (32, 64), (33, 63), (96, 288), (100, 130)]


@pytest.mark.parametrize("K, N", SHAPES)
def test_the_kernel_multiplies_by_the_dense_matrix(rng, K, N):
    w, x = matrix(rng, K, N) + 0.3, matrix(rng, K, 1)[:, 0]
    g, data = quantise(w), INT4.pack(w)
    size = np.abs(x).astype(np.float64) @ (15 * np.abs(g.scale) + np.abs(g.minimum))[
        np.arange(K) // 32]
    assert data.dtype == np.uint8 and data.ctypes.data % 64 == 0
    assert data.size == 20 * R * groups_of(K) * tiles(N)
    assert (INT4.dense(data, N, K) == g.dense()).all()
    y = multiply(data, x, N)
    assert (np.abs(y[:N] - x.astype(np.float64) @ g.dense()) <= 1e-6 * size).all()
    assert (y[N:] == 0).all()
    many = matrix(rng, 3, K)
    assert INT4.matmul(data, many, N).shape == (3, N)
    assert INT4.matmul(data, many, N) == pytest.approx(many @ g.dense(), abs=1e-4)
    assert INT4.dense(data, N, K).dtype == INT4.matmul(data, many, N).dtype == np.float32


@pytest.mark.parametrize("K, N", SHAPES)
def test_the_kernels_rounding_is_the_twin_of_quantise(rng, K, N):
    w = matrix(rng, K, N)
    w[: K // 2] = np.rint(4 * w[: K // 2]) / 4            # many ties, and many equal weights
    for one in (w, 1e-6 * w, 1e3 * w, np.zeros_like(w)):
        assert (INT4.pack(one) == quantise(one).packed().data).all()


def test_the_bytes_are_those_of_ggufs_block(rng):
    """Output r's bytes are the block that GGUF's Q4_1 has: scale, minimum, 16 bytes."""
    w = matrix(rng, 64, 70)
    g, data = quantise(w), INT4.pack(w).reshape(2, 2, 1280)
    for n in (0, 5, 63, 64, 69):
        for b in (0, 1):
            block = data[n // 64, b]
            r = n % 64
            d, m = block[:256].view(np.float16)[[r, 64 + r]]
            assert d == g.scale[b, n] and m == g.minimum[b, n]
            packed = block[256:].reshape(16, 64)[:, r]
            q = np.concatenate([packed & 15, packed >> 4])
            assert (q == g.q[32 * b:32 * b + 32, n]).all()
    assert INT4.bits == 5 and INT4.name == "int4" and data.size * 8 == 5 * 64 * 128


def test_rows_does_the_tiles_it_was_told_and_many_tiles_at_once_agree(rng):
    w, x = matrix(rng, 40, 64 * 19 - 5), matrix(rng, 40, 1)[:, 0]
    data, N = INT4.pack(w), 64 * 19 - 5
    whole = multiply(data, x, N)
    y = multiply(data, x, N, 1, 3)
    assert (y[:64] == 7).all() and (y[192:] == 7).all() and (y[64:192] == whole[64:192]).all()
    assert (multiply(data, x, N, 2, 2) == 7).all() and tiles(N) > kernel.AT_ONCE
    assert INT4.matmul(data, x[None], N)[0] == pytest.approx(whole[:N], abs=1e-4)
    with pytest.raises(ValueError, match=r"shape \(3,\) cannot be packed"):
        INT4.pack(np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(0, 3\) cannot be packed"):
        INT4.pack(np.zeros((0, 3)))
    q, scale = np.zeros((40, 3), np.uint8), np.zeros((2, 3), np.float32)
    for s, m in ((scale[:1], scale), (scale, scale[:, :2])):
        with pytest.raises(ValueError, match=r"q \(40, 3\) wants scales and minima \(2, 3\)"):
            tile(q, s, m)


ARCH = Architecture(V=70, T=40, C=40, L=2, H=4, K=2, D=6, F=67, rotary=1000.0)


def small_model(rng):
    must, may = shapes(ARCH)
    return {name: (name.endswith("gain") + rng.standard_normal(shape)
                   * (0.3 if len(shape) == 1 else shape[0] ** -0.5)).astype(np.float32)
            for name, shape in (must | may).items()}


def test_the_engine_runs_on_four_bits_and_on_a_mixture(rng):
    weights, ids = small_model(rng), rng.integers(0, 70, 20)
    names = [n for n in weights if n == "head" or n.endswith(".w")]
    better = {n: gptq(weights[n], hessian(correlated(rng, 50, len(weights[n])))) for n in names}
    for kind, engine, dense in (
            ("nearest", Engine(ARCH, weights, INT4),
             {n: quantise(weights[n]).dense() for n in names}),
            ("gptq", Engine(ARCH, weights | {n: g.packed() for n, g in better.items()}),
             {n: g.dense() for n, g in better.items()}),
            ("mixture", Engine(ARCH, weights, {"head": FLOAT32, "*": INT4}),
             {n: quantise(weights[n]).dense() for n in names if n != "head"})):
        wanted = decode(ARCH, weights | dense, ids, KVCache(ARCH))
        for j, i in enumerate(ids):
            found = engine.step(int(i))
            assert np.abs(found - wanted[j]).max() < 1e-4 * np.abs(wanted[j]).max(), (kind, j)
        engine.reset()
        found = engine.prefill(ids)
        assert np.abs(found - wanted[-1]).max() < 1e-4 * np.abs(wanted[-1]).max(), kind


def test_a_packed_matrix_knows_its_shape_and_format(rng):
    p = quantise(matrix(rng, 33, 5)).packed()
    assert isinstance(p, Packed) and p.shape == (33, 5) and p.format is INT4
    g = Groups(np.zeros((2, 1), np.uint8), np.ones((1, 1), np.float32),
               np.full((1, 1), 0.5, np.float32))
    assert g.group == 32 and g.bits == 4 and (g.dense() == 0.5).all()


# ---- the reader's GPT

def test_calibration_hears_what_every_matrix_gets(rng):
    """Against a forward whose products are replaced: the two agree on every input."""
    weights = {n: w for n, w in small_model(rng).items() if n != "head"}
    texts = [rng.integers(0, 70, n) for n in (9, 1, 30)]
    seen, wanted = listen(ARCH, weights, texts), {}
    seen["head"] = listen_at_head(ARCH, weights, texts)
    original = decoding.apply

    def noting(weights, name, x):
        wanted.setdefault(name + ".w", []).append(x)
        return original(weights, name, x)

    decoding.apply = noting
    try:
        for ids in texts:
            logits = decode(ARCH, weights, ids, KVCache(ARCH))
            wanted.setdefault("head", []).append(
                np.linalg.lstsq(weights["embed"].astype(float), logits.T, rcond=None)[0].T)
    finally:
        decoding.apply = original
    assert seen.keys() == wanted.keys() and len(seen) == 2 * 4 + 1
    for name, parts in wanted.items():
        x = np.concatenate(parts)
        assert seen[name].n == len(x) == 40
        assert seen[name].hessian == pytest.approx(hessian(x), rel=1e-4, abs=1e-4), name
        assert seen[name].mean == pytest.approx(np.abs(x).mean(axis=0), rel=1e-4, abs=1e-5), name


def test_folded_scales_leave_the_models_function_as_it_was(rng):
    """By AWQ's way through a whole model, but with nothing rounded."""
    arch = replace(ARCH, K=4)
    must, may = shapes(arch)
    weights = {n: (n.endswith("gain") + rng.standard_normal(s) * (0.3 if len(s) == 1 else
                   s[0] ** -0.5)).astype(np.float32) for n, s in (must | may).items()}
    ids, scales = rng.integers(0, 70, 20), {}

    class Exactly:
        def __init__(self, name, w, free):
            scales[name] = self.s = np.exp(rng.standard_normal(len(w)) * free).astype(np.float32)
            self.groups, self.w = self, self.s[:, None] * w

        def dense(self):
            return self.w

    groups, changed = scaled(arch, weights, Exactly)
    wanted = decode(arch, weights, ids, KVCache(arch))
    found = decode(arch, with_groups(weights | changed, groups), ids, KVCache(arch))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert sorted(groups) == sorted(names(arch)) and not set(changed) & set(groups)
    assert all((s == 1).all() == (name.endswith("down.w")) for name, s in scales.items())
    loud = louder(arch, weights, 30.0)
    found = decode(arch, loud, ids, KVCache(arch))
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert loud["norm.gain"][0] == pytest.approx(30 * weights["norm.gain"][0])
    assert (loud["norm.gain"][1:32] == weights["norm.gain"][1:32]).all()


def test_prices_are_those_of_the_second_halves(rng):
    weights = {n: w for n, w in small_model(rng).items() if n != "head"}
    ids = rng.integers(0, 70, 200)
    parts = windows(ARCH, ids, 3)
    assert [len(p) for p in parts] == [41] * 3 and (parts[0] == ids[:41]).all()
    assert (parts[-1] == ids[159:]).all()
    found = prices(ARCH, weights, parts)
    for price, part in zip(found, parts):
        logits = decode(ARCH, weights, part[:-1], KVCache(ARCH)).astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert price == pytest.approx(-np.log(p[np.arange(20, 40), part[21:]]).sum(), rel=1e-6)
    mean, error = mean_and_error(np.array([1.0, 2.0, 6.0]), 30)
    assert mean == pytest.approx(0.3) and error == pytest.approx(7 ** 0.5 * 3 ** 0.5 / 30)


def test_headline_gptq_errs_less_than_nearest_and_four_bits_are_a_sixth():
    result = measure(fast=True, seed=0)
    cost = {way: found[0][0] for way, _, _, found in result.rows}
    size = {way: size for way, _, size, _ in result.rows}
    for way in ("INT4, GPTQ", "INT4, nearest", "INT4, nearest, symmetric"):
        assert 0 < abs(cost[way]) < 0.1, way      # a tiny model, a short text: the sign is chance
    assert size["INT4, GPTQ"] * 32 == size["float32"] * 5 and cost["float32"] == 0
    for name, _, alpha, awq_error, gptq_error in result.layers:
        assert gptq_error < min(awq_error, 0.6), name
        assert alpha > 0 or awq_error == 1, name           # without scales AWQ rounds to nearest
    assert [name for name, *_ in result.layers][-1] == "head" and len(result.layers) == 9
    assert [row[0] for row in table(result)[1:]] == [row[0] for row in result.rows]
    assert all(rate > 0 for _, found in result.speeds for _, _, rate in found)
