"""Day 04: every way to multiply gives the same product; the roofline's arithmetic."""

import contextlib
import io
import json
import os
from types import SimpleNamespace

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


class Watched(np.ndarray):
    """An array that writes down the line of memory (64 bytes) of each element that is touched."""

    lines = []

    def __getitem__(self, key):
        Watched.lines.append((id(self), (key[0] * self.shape[1] + key[1]) * self.itemsize // 64))
        return self.view(np.ndarray)[key]

    def __setitem__(self, key, value):
        self[key]                              # written down as a read
        self.view(np.ndarray)[key] = value


def lines_fetched(loops, n, held, monkeypatch):
    """Lines that a compiled way's own loops fetch, run in Python, if a cache holds `held` lines."""
    a, b, c = (np.ones((n, n), np.float32).view(Watched) for _ in "abc")
    c.view(np.ndarray)[:] = 0
    monkeypatch.setattr(Watched, "lines", [])
    monkeypatch.setattr(matmul, "np", SimpleNamespace(zeros=lambda shape, dtype: c))
    assert (loops.py_func(a, b).view(np.ndarray) == n).all()
    cache, fetched = {}, 0                     # a dict keeps its order: the oldest line is first
    for line in Watched.lines:
        fetched += line not in cache
        cache.pop(line, None)
        cache[line] = True
        if len(cache) > held:
            cache.pop(next(iter(cache)))
    return fetched


def test_walking_along_rows_fetches_a_sixteenth_of_the_lines(monkeypatch):
    n = 32                                     # a row has 2 lines, and a column 32
    along, down, both = (lines_fetched(loops, n, 8, monkeypatch)
                         for loops in (matmul._ikj, matmul._ijk, matmul._jki))
    assert along == n**3 // 16 + 2 * n * n // 16     # all of b for each row of a; a and c once
    assert down == n**3 + 2 * n * n + n * n // 16    # b: a line for each step; a for each c_ij
    assert both == 2 * n**3 + n * n                  # a and c: each step a line; b: each b_kj


def test_blas_can_be_asked_without_failing_anywhere():
    blas = roofline.Blas()
    before = blas.threads()
    assert isinstance(blas.kernel, str) and isinstance(before, int) and before >= 0
    blas.set_threads(1)
    assert blas.threads() == min(before, 1)                  # 0: it cannot be asked
    blas.set_threads(before or 1)
    assert blas.threads() == before


def test_another_process_is_asked_for_a_kernel_and_believed_only_if_it_took_it(monkeypatch):
    def here(command, env, **options):
        """Runs the script in this process, which has a kernel already."""
        asked.append(env["OPENBLAS_CORETYPE"])
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(command[2], {})
        return SimpleNamespace(stdout=said.getvalue())

    asked = []
    monkeypatch.setattr(roofline.subprocess, "run", here)
    mine = roofline.Blas().kernel
    assert roofline.blas_with(mine, 8) > 0 and roofline.blas_with("Abacus", 8) == 0
    assert asked == [mine, "Abacus"]


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


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_threads_below_one_or_in_parts_are_refused(threads):
    for call in (matmul.tiled, lambda a, b, threads: roofline.read_all(a[0], threads)):
        with pytest.raises(ValueError, match=f"at least 1, not {threads}"):
            call(np.ones((8, 8), np.float32), np.ones((8, 8), np.float32), threads=threads)


def test_a_number_of_threads_of_any_whole_type_gives_the_product():
    a, b = product(np.random.default_rng(7), 8, 8, 8)
    for threads in (True, np.int32(1), np.uint8(2), 10**6):
        np.testing.assert_allclose(matmul.tiled(a, b, threads=threads), a @ b)


@pytest.mark.parametrize("panel", [(-1, 5), (4, 0)])
def test_panels_without_rows_or_columns_are_refused(panel):
    with pytest.raises(ValueError, match="at least 1"):
        matmul.blocked(np.ones((8, 8)), np.ones((8, 8)), panel=panel)
