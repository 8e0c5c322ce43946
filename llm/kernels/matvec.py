"""Day 43 · A matrix times a vector: how a matrix lies in memory, and the kernel that reads it.

One token needs y = W x for every matrix W of the model: each weight is read once and used once.
The layout decides how fast that goes. Here rows of W are grouped in tiles of R = 64, and a tile
lies in memory as W[k, row], the row innermost: the 64 sums of a tile grow side by side, a weight
each per step of k, no sum ever crosses lanes, and memory is read from front to back.

A `Format` is such a layout with the functions on it. FLOAT32 is the plain one; days 44, 45 and 52
add formats of fewer bits without an edit here. Left out: more than one vector at once, except by
`matmul`, which prefill uses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

R = 64                                      # outputs in a tile: four registers of 16 floats


@dataclass(frozen=True)
class Format:
    """A matrix W (N outputs, K inputs) as bytes, and what can be done with it.

    pack(w): float32 (K, N), as `Linear` stores it -> 1-D uint8, 64-byte aligned, ceil(N / 64)
        tiles of equal size; outputs N … 64·ceil(N / 64) − 1 are zero.
    prepare(x, work): compiled; fills `work`, uint8, with what `rows` wants to know of the
        activations x (K,) float32. `work` has at least `scratch(K)` bytes and starts at a
        multiple of 64.
    rows(data, x, work, y, K, first, last): compiled; y[64·first : 64·last] = (W x) for the tiles
        first … last − 1. y has 64 numbers a tile.
    matmul(data, x, N): x (n, K) float32 -> (n, N), for many vectors at once.
    dense(data, N, K): float32 (K, N), the matrix that `rows` multiplies by, up to rounding.
    """

    name: str
    bits: float                             # per weight, scales included
    pack: Callable
    prepare: Callable
    rows: Callable
    matmul: Callable
    dense: Callable


def scratch(K):
    """Bytes of `work` for K activations: room for a copy in float32, and for scales."""
    return 8 * K + 1024


@dataclass(frozen=True)
class Packed:
    """A matrix (N outputs, K inputs) that already lies in some format's layout.

    format: None means the format that the engine was told to use.
    """

    data: np.ndarray                        # 1-D uint8
    N: int
    K: int
    format: Format | None = None

    @property
    def shape(self):
        """(K, N), as that of the matrix in `Linear`."""
        return self.K, self.N


def tiles(N):
    """How many tiles of R outputs cover N."""
    return -(-N // R)


def aligned(size):
    """`size` bytes of zeros, uint8, whose first lies at a multiple of 64, a line of the cache."""
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + size]


def pack_float32(w):
    """w (K, N) -> tiles of (K, 64), one after another. Raises ValueError unless w is a matrix."""
    w = np.asarray(w)
    if w.ndim != 2 or w.size == 0:
        raise ValueError(f"a matrix of shape {w.shape} cannot be packed: wanted (inputs, outputs)")
    K, N = w.shape
    data = aligned(4 * tiles(N) * K * R)
    for tile, out in enumerate(data.view(np.float32).reshape(-1, K, R)):
        part = w[:, tile * R:(tile + 1) * R]
        out[:, :part.shape[1]] = part
    return data


@njit(cache=True)
def prepare_float32(x, work):
    """Nothing to prepare: `rows_float32` reads x itself."""


@njit(fastmath=True, error_model="numpy", cache=True)
def rows_float32(data, x, work, y, K, first, last):
    """y[64·first : 64·last] = W x. 2·64·K FLOPs and 4·64·K bytes a tile.

    Four inputs a turn: y's tile is read and written once for 4·64 weights, from the nearest cache,
    and the compiler turns the inner loop into whole registers. With eight, which saves some
    reads and writes of y, memory is read a quarter slower: it seems that the processor does not
    foresee the order in which the lines of a turn are then touched.
    """
    w = data.view(np.float32)
    for tile in range(first, last):
        out = y[tile * R:(tile + 1) * R]
        for r in range(R):
            out[r] = np.float32(0)
        for k in range(0, K - 3, 4):
            part = w[(tile * K + k) * R:(tile * K + k + 4) * R]
            x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
            for r in range(R):
                out[r] += (part[r] * x0 + part[r + R] * x1 + part[r + 2 * R] * x2
                           + part[r + 3 * R] * x3)
        for k in range(K // 4 * 4, K):
            part = w[(tile * K + k) * R:(tile * K + k + 1) * R]
            for r in range(R):
                out[r] += part[r] * x[k]


def matmul_float32(data, x, N):
    """x (n, K) -> x Wᵀ (n, N): one product of BLAS a tile, nothing is unpacked."""
    n, K = x.shape
    out = np.empty((n, tiles(N), R), np.float32)
    np.matmul(x, data.view(np.float32).reshape(-1, K, R), out=out.transpose(1, 0, 2))
    return out.reshape(n, -1)[:, :N]


def dense_float32(data, N, K):
    """The matrix (K, N) back, exactly."""
    return data.view(np.float32).reshape(-1, K, R).swapaxes(0, 1).reshape(K, -1)[:, :N].copy()


FLOAT32 = Format("float32", 32.0, pack_float32, prepare_float32, rows_float32, matmul_float32,
                 dense_float32)
