"""Day 04 · Matrix multiplication, from three loops to registers, caches and threads.

Every function takes NumPy arrays a (M, K) and b (K, N) of float32 or float64 and returns a @ b,
(M, N), in 2·M·K·N FLOPs. They differ only in the order in which they touch memory. BLAS (`a @ b`)
is the rival. Left out: batches (loop over them), transposed inputs without a copy, integers, and
the last step of a real BLAS, which keeps a tile of c in registers through the whole sum over K.

Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008, section 4.
"""

import numpy as np
from numba import get_num_threads, njit, prange

ROWS, DEPTH = 4, 8      # the block of a that sits in registers
PANEL = (256, 512)      # the panel of b that sits in a core's L2: 256 · 512 · 4 bytes = 512 KiB


def python_loops(a, b):
    """Three loops over Python lists: the definition, c_ij = Σ_k a_ik b_kj."""
    dtype = _check(a, b)
    rows, columns = a.tolist(), b.T.tolist()
    c = [[0.0] * len(columns) for _ in rows]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for x, y in zip(row, column):
                total += x * y
            c[i][j] = total
    return np.array(c, dtype).reshape(a.shape[0], b.shape[1])


def dot_order(a, b):
    """Loops i, j, k, compiled: every c_ij is a dot product that walks *down a column* of b."""
    return _ijk(*_ready(a, b))


def row_order(a, b):
    """Loops i, k, j, compiled: the inner loop runs *along rows* of b and c, and vectorises."""
    return _ikj(*_ready(a, b))


def column_order(a, b):
    """Loops j, k, i, compiled: the inner loop runs down columns of a and c. The worst order."""
    return _jki(*_ready(a, b))


def blocked(a, b, panel=(128, 1024)):
    """`row_order` on a panel of b that stays in cache while every row of a passes over it."""
    if min(panel) < 1:
        raise ValueError(f"a panel of {panel} rows and columns: both must be at least 1")
    return _blocked(*_ready(a, b), *panel)


def tiled(a, b, threads=None):
    """Cache panels and register blocks; `threads` stripes of rows at once (None: all threads).

    Rows of a are padded to a multiple of 4 and K to a multiple of 8 with zeros, which add nothing.
    """
    threads = get_num_threads() if threads is None else threads
    if not isinstance(threads, (int, np.integer)) or threads < 1:
        raise ValueError(f"threads must be a whole number and at least 1, not {threads}")
    a, b = _ready(a, b)
    m, n = a.shape[0], b.shape[1]
    a, b = _padded(a, ROWS, DEPTH), _padded(b, DEPTH, 1)
    if 0 in a.shape or n == 0:
        return np.zeros((m, n), a.dtype)
    stripes = min(int(threads), a.shape[0] // ROWS)
    return _tiled(a, b, stripes, *PANEL)[:m]


@njit(fastmath=True, cache=True)
def _ijk(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@njit(fastmath=True, cache=True)
def _ikj(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@njit(fastmath=True, cache=True)
def _jki(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for j in range(b.shape[1]):
        for k in range(a.shape[1]):
            for i in range(a.shape[0]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@njit(fastmath=True, cache=True)
def _blocked(a, b, panel_rows, panel_columns):
    (m, depth), n = a.shape, b.shape[1]
    c = np.zeros((m, n), a.dtype)
    for j0 in range(0, n, panel_columns):
        for k0 in range(0, depth, panel_rows):
            for i in range(m):
                ci = c[i, j0:j0 + panel_columns]       # a slice begins at 0, so the compiler sees
                for k in range(k0, min(k0 + panel_rows, depth)):     # that no index is negative
                    bk = b[k, j0:j0 + panel_columns]
                    for j in range(ci.size):
                        ci[j] += a[i, k] * bk[j]
    return c


@njit(fastmath=True)
def _eight(row, k):
    """Eight neighbours of one row of a, as values that the compiler can keep in registers."""
    return (row[k], row[k + 1], row[k + 2], row[k + 3],
            row[k + 4], row[k + 5], row[k + 6], row[k + 7])


@njit(fastmath=True)
def _dot(s, x):
    return (s[0] * x[0] + s[1] * x[1] + s[2] * x[2] + s[3] * x[3]
            + s[4] * x[4] + s[5] * x[5] + s[6] * x[6] + s[7] * x[7])


@njit(fastmath=True, parallel=True, cache=True)
def _tiled(a, b, stripes, panel_rows, panel_columns):
    """a (M, K), b (K, N), M % 4 == 0 and K % 8 == 0; each stripe of rows of c is one thread's."""
    (m, depth), n = a.shape, b.shape[1]
    c = np.zeros((m, n), a.dtype)
    groups = m // 4
    for stripe in prange(stripes):
        first, last = stripe * groups // stripes * 4, (stripe + 1) * groups // stripes * 4
        panel = np.empty((panel_rows, panel_columns), a.dtype)
        for j0 in range(0, n, panel_columns):
            width = min(panel_columns, n - j0)
            for k0 in range(0, depth, panel_rows):
                height = min(panel_rows, depth - k0)
                panel[:height, :width] = b[k0:k0 + height, j0:j0 + width]   # close together now
                for i in range(first, last, 4):
                    _four_rows(a, i, k0, height, panel, c, j0, width)
    return c


@njit(fastmath=True)
def _four_rows(a, i, k0, height, panel, c, j0, width):
    """Four rows of c += four rows of a · panel: per inner step 12 loads, 4 stores and 32 FMAs."""
    c0, c1 = c[i, j0:j0 + width], c[i + 1, j0:j0 + width]
    c2, c3 = c[i + 2, j0:j0 + width], c[i + 3, j0:j0 + width]
    for k in range(0, height, 8):
        a0, a1 = _eight(a[i], k0 + k), _eight(a[i + 1], k0 + k)
        a2, a3 = _eight(a[i + 2], k0 + k), _eight(a[i + 3], k0 + k)
        b0, b1, b2, b3 = panel[k], panel[k + 1], panel[k + 2], panel[k + 3]
        b4, b5, b6, b7 = panel[k + 4], panel[k + 5], panel[k + 6], panel[k + 7]
        for j in range(width):
            x = (b0[j], b1[j], b2[j], b3[j], b4[j], b5[j], b6[j], b7[j])
            c0[j] += _dot(a0, x)
            c1[j] += _dot(a1, x)
            c2[j] += _dot(a2, x)
            c3[j] += _dot(a3, x)


def _check(a, b):
    """The dtype of the product, or what does not fit."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"cannot multiply {a.shape} by {b.shape}: both must be matrices and the "
                         "columns of the first must equal the rows of the second")
    dtype = np.result_type(a, b)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"cannot multiply {a.dtype} {a.shape} by {b.dtype} {b.shape}: "
                         "convert both with .astype(np.float32)")
    return dtype


def _ready(a, b):
    """Both as row-major arrays of one dtype, so that one compiled version serves every caller."""
    dtype = _check(a, b)
    return np.ascontiguousarray(a, dtype), np.ascontiguousarray(b, dtype)


def _padded(x, rows, columns):
    """x with zero rows and columns added up to multiples; x itself where nothing is missing."""
    more = -x.shape[0] % rows, -x.shape[1] % columns
    return np.pad(x, ((0, more[0]), (0, more[1]))) if any(more) else x
