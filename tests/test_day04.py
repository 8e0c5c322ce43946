"""Day 04: every way to multiply gives the same product; the roofline's arithmetic."""

import json
import os
import time

import numpy as np
import pytest

from days.day04 import run
from days.harness import plain
from llm.tensors import matmul, roofline

WAYS = [matmul.python_loops, matmul.dot_order, matmul.row_order, matmul.column_order,
        matmul.blocked, matmul.tiled]


@pytest.fixture(autouse=True, scope="module")
def passive_threads():
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def product(rng, m, k, n, dtype=np.float64):
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)


@pytest.mark.parametrize("way", WAYS)
def test_the_hand_example(way):
    a, b = np.array([[1., 2], [3, 4]]), np.array([[5., 6], [7, 8]])
    assert way(a, b).tolist() == [[19, 22], [43, 50]]


def test_the_intensity_by_hand():
    assert roofline.flops(2, 2, 2) == 16 and roofline.least_bytes(2, 2, 2) == 48
    assert roofline.intensity(1024, 1024, 1024) == pytest.approx(1024 / 6)
    assert roofline.intensity(1, 4096, 4096) == pytest.approx(0.5, abs=1e-3)
    assert roofline.attainable(0.5, peak=400, bandwidth=40) == 20
    assert roofline.attainable(100, peak=400, bandwidth=40) == 400
    assert roofline.ridge(peak=400, bandwidth=40) == 10


@pytest.mark.parametrize("way", WAYS)
def test_odd_shapes_agree_with_a_sum_of_outer_products(way):
    rng = np.random.default_rng(0)
    for _ in range(25):
        a, b = product(rng, *rng.integers(1, 24, 3))
        outer = sum(np.multiply.outer(a[:, k], b[k]) for k in range(a.shape[1]))
        np.testing.assert_allclose(way(a, b), outer, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(way, dtype):
    a, b = product(np.random.default_rng(1), 5, 9, 3, dtype)
    assert way(a, b).dtype == dtype
    assert way(a, b) == pytest.approx(a @ b, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("m, k, n", [(5, 261, 515), (9, 300, 1030), (4, 512, 512), (67, 8, 513)])
@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_panels_and_stripes_that_do_not_divide_the_matrix(m, k, n, threads):
    a, b = product(np.random.default_rng(2), m, k, n)
    np.testing.assert_allclose(matmul.tiled(a, b, threads), a @ b, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(matmul.blocked(a, b, (100, 64)), a @ b, rtol=1e-10, atol=1e-9)


def test_float32_is_as_near_to_the_truth_as_blas():
    a, b = product(np.random.default_rng(3), 64, 700, 80, np.float32)
    exact = a.astype(np.float64) @ b
    error = np.abs(matmul.tiled(a, b) - exact).max()
    assert error < 4 * np.abs(a @ b - exact).max() + 1e-6


@pytest.mark.parametrize("way", WAYS)
def test_views_with_any_strides_multiply_too(way):
    a, b = product(np.random.default_rng(4), 12, 10, 14)
    np.testing.assert_allclose(way(a[:, ::-2], b[::2]), a[:, ::-2] @ b[::2], atol=1e-12)
    np.testing.assert_allclose(way(b.T, a.T), b.T @ a.T, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("m, k, n", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1)])
def test_empty_and_single(way, m, k, n):
    a, b = np.ones((m, k)), np.ones((k, n))
    assert (way(a, b) == np.full((m, n), float(k))).all() and way(a, b).shape == (m, n)


@pytest.mark.parametrize("way", WAYS)
def test_shapes_that_do_not_fit_are_told(way):
    with pytest.raises(ValueError, match=r"\(2, 3\) by \(2, 3\)"):
        way(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"\(3,\) by \(3, 1\)"):
        way(np.ones(3), np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"int64 \(2, 2\).*astype"):
        way(np.ones((2, 2), np.int64), np.ones((2, 2), np.int64))


def test_reading_all_adds_each_number_once():
    x = np.random.default_rng(5).integers(0, 9, 10_001).astype(np.float32)
    for threads in (1, 2, 5, None):
        assert roofline.read_all(x, threads) == x.sum(dtype=np.float64)
    assert roofline.read_all(x[:0]) == 0
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        roofline.read_all(np.ones((2, 3), np.float32))


def fastest(functions, repeats):
    """The least seconds of each function, taken in turns: what no other program disturbed."""
    for function in functions:
        function()
    rounds = []
    for _ in range(repeats):
        rounds.append([])
        for function in functions:
            start = time.perf_counter()
            function()
            rounds[-1].append(time.perf_counter() - start)
    return np.min(rounds, axis=0)


def test_walking_along_rows_is_several_times_faster_than_down_columns():
    a, b = product(np.random.default_rng(6), 192, 192, 192, np.float32)
    along, down, both = fastest([lambda: matmul.row_order(a, b), lambda: matmul.dot_order(a, b),
                                 lambda: matmul.column_order(a, b)], 5)
    assert 3 * along < down and 3 * along < both            # about 15 times on a quiet machine


def test_blas_can_be_asked_without_failing_anywhere():
    blas = roofline.Blas()
    before = blas.threads()
    blas.set_threads(before or 1)
    assert isinstance(blas.kernel, str) and blas.threads() == before


def test_all_ways_of_the_run_agree():
    result = run.measure(fast=True, seed=0)
    assert result.worst_error < 1e-5
    assert len(result.ways) == 8 and min(result.gflops.values()) > 0
    peak, bandwidth = max(row[3] for row in result.rows), result.all_cores_gbs
    peak, bandwidth = max(peak, result.gflops["6 · BLAS"]), max(bandwidth, result.one_core_gbs)
    for m, intensity, _, bound in result.rows:
        assert intensity == roofline.intensity(m, *result.b_shape)
        assert bound == pytest.approx(min(peak, bandwidth * intensity))
    assert result.ridge == pytest.approx(peak / bandwidth)
    assert len(result.elsewhere) == 3 and min(min(row) for row in result.elsewhere.values()) > 0
    assert result.best_of_blas == (result.gflops["5 · + all threads"]
                                   / result.gflops["6 · BLAS"])
    json.dumps(plain(result.__dict__))


@pytest.mark.parametrize("name", ["python_loops", "dot_order", "row_order", "column_order",
                                  "blocked", "tiled"])
def test_mixed_types_give_the_wider_one(name):
    a, b = np.ones((8, 8), np.float32), np.ones((8, 8))
    assert getattr(matmul, name)(a, b).dtype == np.float64
    assert getattr(matmul, name)(b, a).dtype == np.float64


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(threads):
    with pytest.raises(ValueError, match=f"at least 1, not {threads}"):
        matmul.tiled(np.ones((8, 8)), np.ones((8, 8)), threads=threads)


@pytest.mark.parametrize("panel", [(-1, 5), (4, 0)])
def test_panels_without_rows_or_columns_are_refused(panel):
    with pytest.raises(ValueError, match="at least 1"):
        matmul.blocked(np.ones((8, 8)), np.ones((8, 8)), panel=panel)
