"""Day 43 · The compiled engine: formats, the barrier, the fused token, and the stream."""

import numpy as np
import pytest

from llm.kernels.matvec import FLOAT32, R, aligned, scratch, tiles


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def multiply(fmt, data, x, N):
    """y = W x through the format's own functions, all tiles at once."""
    y, work = np.full(R * tiles(N), 7, np.float32), aligned(scratch(x.size))
    fmt.prepare(x, work)
    fmt.rows(data, x, work, y, x.size, 0, tiles(N))
    return y


@pytest.mark.parametrize("K, N", [(1, 1), (7, 64), (8, 65), (33, 200)])
def test_rows_multiply_by_the_packed_matrix_and_pad_with_zeros(rng, K, N):
    w, x = rng.standard_normal((K, N), np.float32), rng.standard_normal(K, np.float32)
    data = FLOAT32.pack(w)
    assert data.dtype == np.uint8 and data.ctypes.data % 64 == 0
    assert data.size == 4 * tiles(N) * R * K
    y = multiply(FLOAT32, data, x, N)
    assert y[:N] == pytest.approx(x @ w.astype(np.float64), abs=1e-4) and (y[N:] == 0).all()
    assert (FLOAT32.dense(data, N, K) == w).all()
    many = rng.standard_normal((3, K), np.float32)
    assert FLOAT32.matmul(data, many, N) == pytest.approx(many @ w, abs=1e-4)
