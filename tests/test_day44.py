"""Day 44 · INT8: what is rounded, by how much, and that integers multiply exactly."""

import math
from itertools import product as every

import numpy as np
import pytest

from days.day35.trained import trained
from days.day44 import choices, outliers, study
from days.day44.run import measure
from llm.generate.architecture import Architecture, gpt_weights, shapes
from llm.generate.cache import KVCache, cache_bytes
from llm.generate.cache8 import Cache8
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.generate.overflow import Reader, keep_first
from llm.kernels.int8 import INT8, int8, sum_products
from llm.kernels.int8_tiles import EXACT, MOST, group_sizes, round_rows, tile_up, untile
from llm.kernels.matvec import Packed, R, aligned, scratch, tiles
from llm.quantize.calibrate import FRACTIONS, errors, mse, percentile
from llm.quantize.int8 import dequantize, grid, limits, min_max, pieces, quantize, spread, sqnr
from llm.quantize.integer import INT32, most_products, product
from llm.quantize.smooth import factors, move

CALIBRATIONS = [None, percentile(0.9), mse]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def result():
    return measure(fast=True, seed=0)


def f32(*numbers):
    return np.array(numbers, np.float32)


def steps_of(x, quantised):
    """The scale that serves each number of x."""
    return np.broadcast_to(spread(quantised.scale, x.shape, quantised.axis, quantised.group),
                           x.shape)


def test_the_example_by_hand_of_the_two_maps():
    x = f32(-0.5, 0, 0.3, 2.04)
    affine = quantize(x, symmetric=False)
    assert affine.scale.item() == pytest.approx(2.54 / 255)              # 0.00996…
    assert affine.zero.item() == -78                                     # −128 + 50.2, rounded
    assert affine.q.tolist() == [-128, -78, -48, 127]
    assert dequantize(affine)[1] == 0
    assert dequantize(affine) == pytest.approx([-0.49804, 0, 0.29882, 2.04196], abs=1e-5)
    symmetric = quantize(f32(-0.5, 0, 0.3, 2.54))
    assert symmetric.scale.item() == pytest.approx(0.02) and symmetric.zero.item() == 0
    assert symmetric.q.tolist() == [-25, 0, 15, 127]


def test_the_example_by_hand_of_scales_for_all_for_channels_and_for_groups():
    w = f32([1.27, 127], [0.4, -30], [0.01, 20])                         # (3 inputs, 2 outputs)
    one, channels, groups = (quantize(w, axis=a, group=g) for a, g in
                             ((None, None), (0, None), (0, 2)))
    assert one.scale == pytest.approx(f32([1])) and one.q[:, 0].tolist() == [1, 0, 0]
    assert channels.scale == pytest.approx(f32([0.01, 1]))
    assert channels.q.tolist() == [[127, 127], [40, -30], [1, 20]]
    assert groups.scale == pytest.approx(f32([0.01, 1], [0.01 / 127, 20 / 127]))
    assert groups.q.tolist() == [[127, 127], [40, -30], [127, 127]]
    assert [a.bytes() for a in (one, channels, groups)] == [6 + 4, 6 + 8, 6 + 16]


def test_the_example_by_hand_of_a_product_of_integers():
    x = quantize(f32([1.27, -0.5]), axis=1)                              # 127, −50; scale 0.01
    w = quantize(f32([2.54], [1.0]), axis=0)                             # 127, 50; scale 0.02
    assert (x.q.tolist(), w.q.tolist()) == ([[127, -50]], [[127], [50]])
    y = product(x, w)
    assert y == pytest.approx(f32([13629 * 0.0002])) and 127 * 127 - 50 * 50 == 13629
    data, work, out = INT8.pack(f32([2.54], [1.0])), aligned(scratch(2)), np.empty(R, np.float32)
    INT8.prepare(f32(1.27, -0.5), work)
    INT8.rows(data, f32(1.27, -0.5), work, out, 2, 0, 1)
    assert out[0] == pytest.approx(13629 * 0.0002) and (out[1:] == 0).all()


def test_the_example_by_hand_of_smoothing():
    x, w = f32([1, 100], [-4, 50]), f32([1, -0.25], [0.01, 0.0025])
    s = factors(np.abs(x).max(0), np.abs(w).max(1))
    assert s == pytest.approx([2, 100])                                  # √(4 / 1), √(100 / 0.01)
    assert x / s == pytest.approx(f32([0.5, 1], [-2, 0.5]))
    assert w * s[:, None] == pytest.approx(f32([2, -0.5], [1, 0.25]))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (2, 3, 4)])
def test_the_error_is_at_most_half_a_step_where_nothing_is_clipped(rng, symmetric, shape):
    axes = [None, *range(-len(shape), len(shape))]
    for bits, axis, size, kind in every((2, 4, 8), axes, (1e-30, 1, 1e30),
                                        (np.float32, np.float64)):
        for group in (None,) if axis is None else (None, 1, 2, 3, 99):
            x = (size * (rng.standard_normal(shape) + rng.choice([-3, 0, 3]))).astype(kind)
            quantised = quantize(x, bits, symmetric, axis, group)
            back = dequantize(quantised)
            assert back.dtype == quantised.scale.dtype == kind and back.shape == shape
            assert (np.abs(x - back) <= steps_of(x, quantised) / 2 * (1 + 1e-4)).all()
            least, top = limits(bits, symmetric)
            assert quantised.q.dtype == np.int8
            assert least <= quantised.q.min() and quantised.q.max() <= top


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("calibrate", CALIBRATIONS)
def test_zero_is_stored_exactly(rng, symmetric, calibrate):
    for bits, mean in every((2, 3, 8), (-50, -1, 0, 1, 50)):
        x = (rng.standard_normal((6, 40)) + mean).astype(np.float32)
        x[:, 7] = 0
        for axis, group in ((None, None), (0, None), (1, 16)):
            back = dequantize(quantize(x, bits, symmetric, axis, group, calibrate))
            assert (back[:, 7] == 0).all()


def test_tensors_of_zeros_and_of_one_sign_are_fine(rng):
    for symmetric, axis, calibrate in every((True, False), (None, 0), CALIBRATIONS):
        zeros = quantize(np.zeros((3, 4)), 8, symmetric, axis, calibrate=calibrate)
        assert (dequantize(zeros) == 0).all() and (zeros.scale == 1).all()
    for x in (rng.uniform(5, 6, 50), -rng.uniform(5, 6, 50)):
        affine = quantize(x, symmetric=False)
        assert affine.scale.item() == pytest.approx(np.abs(x).max() / 255)
        assert affine.zero.item() == (-128 if x[0] > 0 else 127)
        assert np.abs(dequantize(affine) - x).max() <= affine.scale.item() / 2 * (1 + 1e-9)
    tiny = quantize(f32(1e-44, 0))                                       # its scale would be 0
    assert tiny.scale.item() == 1 and (dequantize(tiny) == 0).all()
    edge = np.finfo(np.float32).tiny
    assert quantize(f32(127 * edge)).scale.item() == edge
    assert quantize(f32(126.9 * edge)).scale.item() == 1


def test_integers_reach_both_ends_and_a_grid_holds_its_own_points(rng):
    for bits in range(2, 9):
        least, top = limits(bits, False)
        assert (least, top) == (-2**(bits - 1), 2**(bits - 1) - 1)
        assert limits(bits, True) == (-top, top)
        points = np.arange(least, top + 1) - 1.0                         # with a zero at 1
        affine = quantize(points, bits, symmetric=False)
        assert affine.q.tolist() == list(range(least, top + 1)) and affine.zero.item() == 1
        assert (dequantize(affine) == points).all()
        even = np.arange(-top, top + 1, dtype=np.float64)
        assert (dequantize(quantize(even, bits)) == even).all()
    default = quantize(f32(1, -1))
    assert (default.bits, default.symmetric, default.axis, default.group) == (8, True, None, None)


def test_huge_numbers_do_not_overflow():
    most = 0.9 * np.finfo(np.float32).max
    for symmetric in (True, False):
        quantised = quantize(f32(-most, most / 2), symmetric=symmetric)
        assert np.isfinite(quantised.scale).all()
        back = dequantize(quantised).astype(np.float64)
        assert np.abs(back - [-most, most / 2]).max() <= quantised.scale.item() * 0.5001


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_groups_are_what_cutting_the_array_would_give(rng, axis):
    x, size = rng.standard_normal((5, 7, 9)).astype(np.float32), 4
    for symmetric, calibrate in every((True, False), CALIBRATIONS):
        whole = quantize(x, 8, symmetric, axis, size, calibrate)
        cuts = np.split(x, range(size, x.shape[axis], size), axis)
        parts = [quantize(cut, 8, symmetric, axis, calibrate=calibrate) for cut in cuts]
        for name in ("q", "scale", "zero"):
            expected = np.concatenate([getattr(part, name) for part in parts], axis)
            assert (getattr(whole, name) == expected).all()
        assert whole.scale.shape[axis] == math.ceil(x.shape[axis] / size)
    assert [part.shape for part in pieces(x, 1, 4)] == [(5, 9, 1, 4), (5, 9, 1, 3)]
    assert [part.shape for part in pieces(x, None, None)] == [(1, 1, 315)]
    assert quantize(x, axis=axis, group=100).scale.shape[axis] == 1


def test_finer_scales_never_have_a_larger_step(rng):
    x = rng.standard_normal((64, 8)).astype(np.float32)
    largest = [steps_of(x, quantize(x, axis=axis, group=group))
               for axis, group in ((None, None), (0, None), (0, 32), (0, 8), (0, 1))]
    for coarse, fine in zip(largest, largest[1:]):
        assert (fine <= coarse).all()


def test_percentiles_cut_off_the_share_that_they_say(rng):
    x = rng.standard_normal((3, 1001)).astype(np.float32)
    low, high = percentile(0.9)(x)
    assert ((np.abs(x) > high[:, None]).sum(-1) == 100).all() and (low == -high).all()
    low, high = percentile(0.9)(x, symmetric=False)
    assert ((x < low[:, None]).sum(-1) == 50).all() and ((x > high[:, None]).sum(-1) == 50).all()
    for symmetric in (True, False):
        whole = quantize(x, 8, symmetric, 1, calibrate=percentile(1))
        assert (whole.q == quantize(x, 8, symmetric, 1).q).all()
    cut = quantize(x, axis=1, calibrate=percentile(0.9))
    beyond = np.abs(x) > 127.5 * cut.scale
    assert beyond.sum() > 200 and (np.abs(cut.q[beyond]) == 127).all()
    sparse = np.zeros((1, 100), np.float32)
    sparse[0, 3] = -2                                                    # the percentile is 0
    for symmetric in (True, False):
        assert dequantize(quantize(sparse, 8, symmetric, 1, None, percentile(0.9)))[0, 3] == \
            pytest.approx(-2)
    for share in (0, -0.1, 1.01):
        with pytest.raises(ValueError, match=rf"share of {share}: wanted 0 < share ≤ 1"):
            percentile(share)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_finds_the_best_of_its_fractions_and_never_loses_to_min_max(rng, symmetric):
    gains = []
    for bits, axis in every((2, 3, 4, 8), (None, 0, 1)):
        x = (rng.standard_t(3, (20, 30)) + 0.5).astype(np.float32)
        error = lambda quantised, x=x: ((x - dequantize(quantised)) ** 2).sum()
        plain, chosen = (quantize(x, bits, symmetric, axis, calibrate=c) for c in (None, mse))
        gains.append(error(plain) / error(chosen))
        if axis is None:
            low, high = x.min(), x.max()
            tried = []
            for fraction in FRACTIONS:
                scale, zero = grid(np.float32(fraction * low), np.float32(fraction * high), bits,
                                   symmetric)
                q = np.clip(np.rint(x / scale) + zero, *limits(bits, symmetric))
                tried.append(((x - scale * (q - zero)) ** 2).sum())
            assert error(chosen) == pytest.approx(min(tried), rel=1e-5)
    assert min(gains) >= 1 - 1e-6 and gains[0] > 1.5                     # 2 bits, one scale
    assert FRACTIONS[-1] == 1 and FRACTIONS[0] > 0
    exact = f32([-3, 1, 2, 3])
    assert (min_max(exact), mse(exact, 3)) == (([-3], [3]), ([-3], [3]))  # ties: the whole range
    assert errors(exact, f32(-3), f32(3), 3, True).tolist() == [0]
    assert quantize(exact, 3, calibrate=mse).scale.dtype == np.float32


def test_what_cannot_be_rounded_is_refused(rng):
    with pytest.raises(ValueError, match=r"shape \(0, 3\) has nothing to quantise"):
        quantize(np.zeros((0, 3)))
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"shape \(2,\) with inf or NaN has no range"):
            quantize([1, wrong])
    for bits in (1, 9, 0):
        with pytest.raises(ValueError, match=f"{bits} bits: wanted 2 … 8"):
            quantize([1.0], bits)
    for axis in (2, -3):
        with pytest.raises(ValueError, match=rf"axis {axis} of an array of shape \(2, 2\)"):
            quantize(np.ones((2, 2)), axis=axis)
    for axis, group in ((None, 4), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match=f"groups of {group} along axis {axis}"):
            quantize(np.ones((2, 2)), axis=axis, group=group)


def test_bytes_count_integers_scales_and_zeros():
    x = np.ones((10, 3))
    assert quantize(x.astype(np.float32), axis=0).bytes() == 30 + 3 * 4
    assert quantize(x.astype(np.float16), symmetric=False, axis=0, group=4).bytes() == 30 + 9 * 5
    assert quantize(x, 3).bytes() == math.ceil(90 / 8) + 8
    assert quantize(x, axis=0).shape == (10, 3)


def test_the_noise_of_rounding_is_a_twelfth_of_the_step_squared(rng):
    x = rng.standard_normal(200_000)
    quantised = quantize(x)
    error, step = x - dequantize(quantised), quantised.scale.item()
    assert (error**2).mean() == pytest.approx(step**2 / 12, rel=0.02)
    assert abs((error * x).mean()) < 0.02 * step
    most = np.abs(x).max()
    assert sqnr(x, dequantize(quantised)) == pytest.approx(
        10 * math.log10(12 * 127**2) - 20 * math.log10(most / x.std()), abs=0.1)
    assert sqnr(f32(3, 4), f32(3, 4)) == math.inf
    assert sqnr(f32(10, 0), f32(9, 0)) == pytest.approx(20) == pytest.approx(
        sqnr(f32(0, 10), f32(0, 11)))
    narrow = np.append(0.001 * x, 1.0)                       # steps far wider than the numbers
    rounded = dequantize(quantize(narrow))
    assert (rounded[:-1] == 0).mean() > 0.99                 # then the error is the number itself


def kinds(K):
    """Pairs of options for x (n, K) and w (K, N) whose product can be taken."""
    for x, w in every((True, False), (True, False)):
        yield {"symmetric": x}, {"symmetric": w}
        yield {"symmetric": x, "axis": 1}, {"symmetric": w, "axis": 0}
        yield {"symmetric": x, "axis": 1}, {"symmetric": w}
        for group in (1, 3, K, 50):
            yield ({"symmetric": x, "axis": 1, "group": group},
                   {"symmetric": w, "axis": 0, "group": group})
    yield {"axis": -1, "bits": 5}, {"axis": -2, "bits": 3, "symmetric": False}


def test_a_product_of_integers_is_the_product_of_what_they_mean(rng):
    for n, K, N in ((1, 1, 1), (4, 10, 3), (2, 7, 5)):
        x, w = rng.standard_normal((n, K)) + 1, rng.standard_normal((K, N)) - 1
        for options, others in kinds(K):
            a, b = quantize(x, **options), quantize(w, **others)
            assert product(a, b) == pytest.approx(dequantize(a) @ dequantize(b), abs=1e-9)
    assert product(quantize(f32([1])), quantize(f32([1]))).dtype == np.float32


def test_sums_are_of_32_bits_and_16_would_overflow():
    ones = lambda n, symmetric=True: quantize(np.ones((n, n)), symmetric=symmetric)
    for K in (2, 3, 4, 7, 1000):                              # 3 · 127² = 48,387 > 32,767
        found = product(ones(K), ones(K))
        assert found == pytest.approx(np.full((K, K), float(K)))
        sums = np.empty(R, np.int32)
        sum_products(np.full(K * R, 127, np.int8), np.full(K, -127, np.int16), sums)
        assert (sums == -16129 * K).all()
    assert 2 * 127**2 < 2**15 < 3 * 127**2
    assert most_products(ones(1), ones(1)) == MOST == 133_144 == (2**31 - 1) // 127**2
    assert most_products(ones(1, False), ones(1)) == 66_311
    assert most_products(ones(1, False), ones(1, False)) == 33_025
    assert most_products(quantize(np.ones(1), 4), ones(1)) == INT32 // (7 * 127)
    sums, w = np.empty(R, np.int32), np.full(MOST * R, -127, np.int8)
    sum_products(w, np.full(MOST, -127, np.int16), sums)
    assert (sums == MOST * 16129).all() and INT32 - MOST * 16129 < 16129


def test_a_product_that_cannot_be_taken_is_refused():
    q = lambda shape, **options: quantize(np.ones(shape), **options)
    for x, w, words in (
            (q((2, 3)), q((4, 5)), r"x \(2, 3\) times w \(4, 5\): 3 inputs for 4"),
            (q((2, 3), axis=0), q((3, 5)), "axis 0 of x and None of w cannot be taken out"),
            (q((2, 3)), q((3, 5), axis=1), "axis None of x and 1 of w cannot be taken out"),
            (q((2, 4), axis=1, group=2), q((4, 5), axis=0, group=3),
             r"groups of 2 in x \(2, 4\) and 3 in w \(4, 5\)"),
            (q((2, 4), axis=1), q((4, 5), axis=0, group=3), "groups of None in x"),
            (q((1, MOST + 1)), q((MOST + 1, 1)), "133,145 products of 8 and 8 bits can overflow"),
            (q((1, 33_026), symmetric=False), q((33_026, 1), symmetric=False), "33,026 products")):
        with pytest.raises(ValueError, match=words):
            product(x, w)
    assert product(q((1, MOST)), q((MOST, 1))) == pytest.approx(np.array([[MOST]]))
    assert product(q((1, MOST + 1), axis=1, group=9), q((MOST + 1, 1), axis=0, group=9)).size == 1


def multiply(fmt, data, x, N):
    """One vector by the compiled rows, from a dirty memory."""
    work, y = aligned(scratch(len(x))), np.full(R * tiles(N), np.nan, np.float32)
    work[:] = 0xAB
    fmt.prepare(x, work)
    fmt.rows(data, x, work, y, len(x), 0, tiles(N))
    return y


@pytest.mark.parametrize("group", [None, 1, 3, 32, 40])
def test_the_kernel_equals_the_product_in_numpy(rng, group):
    fmt = int8(group)
    for K, N in ((1, 1), (2, 64), (3, 65), (4, 1), (7, 130), (64, 100), (97, 128), (40, 3)):
        x = rng.standard_normal(K).astype(np.float32)
        w = rng.standard_normal((K, N)).astype(np.float32) * rng.choice([0.01, 1, 9], N)
        w = w.astype(np.float32)
        data, options = fmt.pack(w), {"group": group}
        y = multiply(fmt, data, x, N)
        a, b = quantize(x[None], axis=1, **options), quantize(w, axis=0, **options)
        assert y[:N] == pytest.approx(product(a, b)[0], rel=1e-5, abs=1e-5)
        assert (y[N:] == 0).all()
        assert fmt.dense(data, N, K) == pytest.approx(dequantize(b), rel=1e-6)
        assert fmt.dense(data, N, K).dtype == np.float32
        many = np.stack([x, -2 * x, 0 * x])
        found = fmt.matmul(data, many, N)
        assert found == pytest.approx(np.stack([y[:N], -2 * y[:N], 0 * y[:N]]), rel=1e-5, abs=1e-5)
        assert found.dtype == np.float32
        q, scale = untile(data, N, K, group)
        assert (q == b.q).all() and (scale == b.scale).all()
        assert (tile_up(b.q, b.scale, group) == data).all() and data.ctypes.data % 64 == 0
        assert data.size == tiles(N) * (64 * K + 256 * len(group_sizes(K, group)))


def test_rows_does_the_tiles_that_it_was_told(rng):
    for group in (None, 5):
        fmt, x = int8(group), rng.standard_normal(12).astype(np.float32)
        data, work = fmt.pack(rng.standard_normal((12, 250)).astype(np.float32)), aligned(1200)
        fmt.prepare(x, work)
        whole, part = np.empty(256, np.float32), np.full(256, 7, np.float32)
        fmt.rows(data, x, work, whole, 12, 0, 4)
        fmt.rows(data, x, work, part, 12, 1, 3)
        assert (part[64:192] == whole[64:192]).all() and (part[:64] == 7).all()
        assert (part[192:] == 7).all()


def test_the_integers_of_activations_are_those_of_numpy(rng):
    for K, size in ((1, 1), (10, 10), (10, 4), (64, 16)):
        x = rng.standard_normal((3, K)).astype(np.float32)
        x[1, :5], x[2, K // 2:] = 0, 1e-44
        q, scale = round_rows(x, size)
        expected = quantize(x, axis=1, group=size)
        assert (q == expected.q).all() and (scale == expected.scale).all()
        for i in range(3):
            work = aligned(scratch(K))
            int8(None if size == K else size).prepare(x[i], work)
            n = scale.shape[1]
            assert (work[:4 * n].view(np.float32) == scale[i]).all()
            assert (work[4 * n:4 * n + 2 * K].view(np.int16) == q[i]).all()
            assert (work[4 * n + 2 * K:] == 0).all()


def test_many_products_are_summed_exactly_by_blas_too():
    for K in (EXACT, EXACT + 1, 2500):
        data = tile_up(np.full((K, 2), 127, np.int8), f32([1 / 127, 2]))
        x = np.ones((2, K), np.float32)
        x[1, 1::2] = 126 / 127
        found = INT8.matmul(data, x, 2)
        exact = np.array([127 * K, 127 * (K - K // 2) + 126 * (K // 2)]) * 127
        assert (found[:, 1] == (exact.astype(np.float32) * (f32(1) / f32(127) * f32(2)))).all()
        assert multiply(INT8, data, x[1], 2)[:2].tolist() == found[1].tolist()
    assert EXACT == 1040 and 1040 * 127**2 <= 2**24 < 1041 * 127**2


def test_scales_of_one_number_serve_all_and_wrong_ones_are_refused(rng):
    w = quantize(rng.standard_normal((6, 70)).astype(np.float32))
    assert INT8.dense(tile_up(w.q, w.scale), 70, 6) == pytest.approx(dequantize(w))
    assert int8(4).dense(tile_up(w.q, w.scale, 4), 70, 6) == pytest.approx(dequantize(w))
    for q, scale, group, words in (
            (w.q.astype(np.int16), w.scale, None, r"shape \(6, 70\) and type int16: wanted int8"),
            (w.q[0], w.scale, None, r"shape \(70,\)"), (w.q[:0], w.scale, None, r"\(0, 70\)"),
            (w.q, np.ones((1, 69)), None, r"scales of shape \(1, 69\) for integers \(6, 70\)"),
            (w.q, np.ones((1, 70)), 4, r"groups of 4: wanted \(2, 70\)"),
            (np.ones((MOST + 1, 1), np.int8), f32([1]), None, "133,145 products of 8-bit")):
        with pytest.raises(ValueError, match=words):
            tile_up(q, scale, group)
    assert tile_up(np.ones((MOST, 1), np.int8), f32([1])).size == 256 + 64 * MOST
    for wrong in (np.ones(3), np.ones((0, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"cannot be packed: wanted finite"):
            INT8.pack(wrong)
    with pytest.raises(ValueError, match="groups of 0 inputs"):
        int8(0)
    assert int8() is INT8 and (INT8.name, INT8.bits) == ("INT8", 8)
    assert (int8(32).name, int8(32).bits) == ("INT8, groups of 32", 9)


def make(rng, dtype=np.float32, size=0.3, **other):
    arch = Architecture(**{"V": 70, "T": 24, "C": 16, "L": 2, "H": 4, "K": 2, "D": 6, "F": 37,
                           "rotary": 100.0, **other})
    must, may = shapes(arch)
    kept = must | {name: shape for name, shape in may.items() if name != "head"}
    return arch, {name: (name.endswith("gain") + size * rng.standard_normal(shape)).astype(dtype)
                  for name, shape in kept.items()}


@pytest.mark.parametrize("group", [None, 7])
@pytest.mark.parametrize("other", [{}, {"rotary": None, "norm": "rms", "feed_forward": "swiglu"}])
def test_the_engine_runs_in_8_bits_and_prefill_agrees(rng, group, other):
    arch, weights = make(rng, **other)
    ids = rng.integers(70, size=9)
    engine, plain = Engine(arch, weights, int8(group)), Engine(arch, weights)
    logits = np.array([engine.step(int(i)).copy() for i in ids])
    exact = np.array([plain.step(int(i)).copy() for i in ids])
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 0.06
    again = Engine(arch, weights, int8(group))
    assert again.prefill(ids) == pytest.approx(logits[-1], abs=0.02 * float(np.abs(exact).max()))
    assert engine.bytes() < plain.bytes()


def test_the_engine_takes_matrices_that_were_rounded_elsewhere(rng):
    arch, weights = make(rng)
    rounded = dict(weights)
    for name, w in weights.items():
        if name.endswith(".w"):
            quantised = quantize(w, axis=0, calibrate=mse)
            rounded[name] = Packed(tile_up(quantised.q, quantised.scale), w.shape[1], w.shape[0])
    engine, own = Engine(arch, rounded, INT8), Engine(arch, weights, INT8)
    found, expected = engine.step(3), own.step(3)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_smoothing_changes_no_output(rng):
    for C, N, alpha in ((1, 1, 0.5), (6, 4, 0), (9, 30, 0.8), (5, 5, 1)):
        x = rng.standard_normal((7, C)) * 10 ** rng.uniform(-3, 3, C)
        w = rng.standard_normal((C, N))
        s = factors(np.abs(x).max(0), np.abs(w).max(1), alpha)
        assert (x / s) @ (w * s[:, None]) == pytest.approx(x @ w, rel=1e-9, abs=1e-9)
        largest = np.abs(x / s).max(0), np.abs(w * s[:, None]).max(1)
        if alpha == 0.5:
            assert largest[0] == pytest.approx(largest[1])
            assert (s == factors(np.abs(x).max(0), np.abs(w).max(1))).all()
        if alpha in (0, 1):
            assert largest[1 - alpha] == pytest.approx(np.ones(C))


def test_a_dead_channel_is_left_alone():
    s = factors(np.array([0.0, 4, 0, 4]), np.array([4.0, 0, 0, 1]))
    assert s.tolist() == [1, 1, 1, 2]


def test_smoothing_a_model_moves_it_into_norms_and_values(rng):
    arch, weights = make(rng, np.float64, K=4)
    ids, C = rng.integers(70, size=8), arch.C
    read = lambda w: decode(arch, w, ids, KVCache(arch, dtype=np.float64))
    s = rng.uniform(0.1, 10, C)
    moved = move(weights, s, ["blocks.0.norm1.gain", "blocks.0.norm1.bias"], ["blocks.0.qkv.w"])
    moved = move(moved, s, ["blocks.1.norm2.gain", "blocks.1.norm2.bias"], ["blocks.1.up.w"])
    assert read(moved) == pytest.approx(read(weights), rel=1e-9)
    assert (moved["blocks.0.qkv.w"] == weights["blocks.0.qkv.w"] * s[:, None]).all()
    assert moved["embed"] is weights["embed"] and moved["blocks.0.qkv.w"].dtype == np.float64
    wrong = move(weights, s, ["blocks.0.norm1.gain"], ["blocks.0.qkv.w"])     # the bias forgotten
    assert np.abs(read(wrong) - read(weights)).max() > 1e-3
    small = {"gain": np.ones(2, np.float32), "w": np.ones((2, 3), np.float32)}
    new = move(small, np.array([2.0, 4]), ["gain"], ["w"])
    assert new["gain"].tolist() == [0.5, 0.25] and new["w"].dtype == new["gain"].dtype == np.float32
    with pytest.raises(ValueError, match=r"gain \(2,\) does not make 3 channels"):
        move(small, np.ones(3), ["gain"], [])
    with pytest.raises(ValueError, match=r"w \(2, 3\) does not read 3 channels"):
        move(small, np.ones(3), [], ["w"])
    for x, w, alpha, words in ((np.ones(2), np.ones(3), 0.5, r"\(2,\) and weights \(3,\)"),
                               (np.ones((2, 2)), np.ones((2, 2)), 0.5, r"\(2, 2\)"),
                               (-np.ones(2), np.ones(2), 0.5, "no size below 0"),
                               (np.ones(2), -np.ones(2), 0.5, "no size below 0"),
                               (np.ones(2), np.ones(2), 1.1, "α = 1.1"),
                               (np.ones(2), np.ones(2), -0.1, "α = -0.1")):
        with pytest.raises(ValueError, match=words):
            factors(x, w, alpha)


def test_the_cache_in_8_bits_rounds_each_vector_by_its_own_scale(rng):
    arch, _ = make(rng)
    cache = Cache8(arch)
    k, v = rng.standard_normal((2, 2, 3, 6)).astype(np.float32) * [[[1.0], [100], [0]]]
    for layer in (0, 1):
        cache.write(layer, k, v * (layer + 1))
    found = cache.read(1, 3)
    for part, exact in zip(found, (k, 2 * v)):
        step = np.abs(exact).max(-1, keepdims=True) / 127
        assert part.dtype == np.float32 and part.shape == (2, 3, 6)
        assert (np.abs(part - exact) <= step * 0.5001).all()
    assert (found[0][:, 2] == 0).all() and np.abs(found[0] - k).max() > 0.01
    cache.advance(3)
    cache.write(0, k[:, :1], v[:, :1])
    assert (cache.read(0)[0] == cache.read(0, 1)[0][:, :3]).all()
    assert cache.read(0, 1)[1].shape == (2, 4, 6) and cache.room == 21
    with pytest.raises(ValueError, match="25 more tokens do not fit"):
        Cache8(arch).write(0, np.ones((2, 25, 6)), np.ones((2, 25, 6)))


def test_a_text_read_through_8_bits_is_nearly_the_same_and_takes_a_quarter(rng):
    arch, weights = make(rng)
    ids = rng.integers(70, size=30)
    logits, caches = [], (KVCache(arch), Cache8(arch), KVCache(arch, dtype=np.float16))
    for cache in caches:
        reader = Reader(arch, weights, cache, keep_first(4))
        logits.append(np.concatenate([reader.read(ids[i:i + 7]) for i in range(0, 30, 7)]))
    largest = np.abs(logits[0]).max()
    error8, error16 = (np.abs(other - logits[0]).max() / largest for other in logits[1:])
    assert 1e-5 < error16 < error8 < 0.05
    exact, eighth, _ = (cache.bytes() for cache in caches)
    assert exact == cache_bytes(arch, 24) and eighth == cache_bytes(arch, 24) * (6 + 4) / (4 * 6)
    small = Cache8(arch, 5)
    assert (small.T_max, small.room) == (5, 5) and Cache8(arch).T_max == 24


def test_the_forward_of_the_study_is_the_models_own():
    reader = trained(True)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    windows = choices.cut(np.array(reader.tokenizer.encode(reader.corpus.validation)), arch.T)[:2]
    plain = study.products(arch, weights, study.Scheme())[0]
    exact = reader.model(windows[:, :-1]).data
    found = study.forward(arch, weights, windows[:, :-1], plain)
    assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()
    engine = Engine(arch, weights, INT8)                 # the integer kernel does as the study says
    both = study.products(arch, weights, study.Scheme(study.CHANNEL, study.TOKEN))[0]
    found = study.forward(arch, weights, windows[:1, :-1], both)[0]
    logits = np.array([engine.step(int(i)).copy() for i in windows[0, :-1]])
    rounding = np.abs(found - exact[0]).mean()
    assert np.abs(logits - found).mean() < rounding / 5


def test_outliers_and_their_cure_leave_the_float_model_as_it_is():
    reader = trained(True)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    windows = choices.cut(np.array(reader.tokenizer.encode(reader.corpus.validation)), arch.T)[:3]
    logits = lambda w: study.forward(arch, w, windows[:, :-1],
                                     study.products(arch, w, study.Scheme())[0])
    exact = logits(weights)
    spoilt = outliers.in_activations(arch, weights, 64, 5)
    for other in (spoilt, outliers.in_keys(arch, weights, 64),
                  outliers.smoothquant(arch, spoilt, windows)):
        assert any((other[name] != weights[name]).any() for name in weights)
        assert np.abs(logits(other) - exact).max() < 1e-3 * np.abs(exact).max()
    seen = study.inputs_seen(arch, spoilt, windows)["blocks.0.qkv.w"]
    assert np.abs(seen[:, 5]).max() > 10 * np.abs(np.delete(seen, 5, 1)).max()


def test_the_headline_of_the_fast_run(result):
    kl = lambda name: result.variants[name]["kl"]
    assert len(result.variants) == 16 and result.windows == 8
    for name, found in result.variants.items():
        if name != "float32":
            assert abs(found["nats"]) < 0.01 and 0 < found["kl"] < 0.001, name
    assert kl("weights, by channel") < kl("weights, by tensor")
    noises = kl("weights, by channel") + kl("activations alone, by token")
    assert noises / 1.6 < kl("weights by channel, activations by token") < 1.6 * noises
    before, after = (found for _, found in result.outliers["activations"])
    plain, cured = choices.GROUPED
    assert after[plain][0] > 3 * before[plain][0] and after[cured][0] < 1.3 * before[cured][0]
    before, after = (found for _, found in result.outliers["keys"])
    assert after["weights by tensor"][0] > 100 * before["weights by tensor"][0]
    assert after["weights by channel"][0] == pytest.approx(before["weights by channel"][0], rel=.1)
    assert result.bits[1][1][0] > 50 * result.bits[0][1][0]              # 4 bits fewer: 4⁴ = 256
    for *_, ratio in result.noise:
        assert 0.5 < ratio < 1.1
    assert result.product[4] == pytest.approx(result.product[2], abs=3)      # dB
    assert result.cache == [2 * 2 * 32 * 32 * 4, 2 * 2 * 32 * 2 * (16 + 4)]
    for _, weights, found in result.speed:
        assert found["INT8"][0] < 0.4 * found["float32"][0] and weights > 0
        assert found["INT8"][0] < found["INT8, groups of 32"][0] < 0.45 * found["float32"][0]
