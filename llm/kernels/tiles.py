"""Day 38 · Tiles: a head's small matrices, laid out so that a product stays in vector registers.

Every product of the attention kernel is made of one step, `add_rows`: a few rows of a result, LANES
numbers each, grow by weighted sums of rows that are LANES wide. Matrices are flat arrays of such
tiles, since the compiler needs to know a width to use whole registers.
"""

import numpy as np
from numba import njit

from llm.kernels.cpu import features
from llm.kernels.floats import tile_onto

LANES = 32                      # floats in a tile's row: two registers of 64 bytes
SHARED = 8 if "avx512f" in features() else 2     # rows of a result whose sums fit into registers


@njit(error_model="numpy")
def add_rows(out, o, out_row, weights, w, row, rows, r, n):
    """out[i] += Σ_{k < n} weights[w + i·row + k] · rows[r + k·LANES : … + LANES], SHARED rows i.

    Row i of out is the LANES numbers from o + i·out_row on. A row that is loaded is used SHARED
    times, and the sums wait in registers.
    """
    tile_onto(weights.ctypes.data + 4 * w, 4 * row, 4, rows.ctypes.data + 4 * r, 4 * LANES,
              out.ctypes.data + 4 * o, 4 * out_row, n, SHARED, LANES, LANES)


@njit(fastmath=True, error_model="numpy")
def turn(row, cos, sin, t):
    """Turn the pairs (i, i + D/2) of a row (D,) by position t's angles (day 31), in place."""
    half = row.size // 2
    for i in range(half):
        a, b = row[i], row[i + half]
        row[i] = a * cos[t, i] - b * sin[t, i]
        row[i + half] = a * sin[t, i] + b * cos[t, i]


@njit(fastmath=True, error_model="numpy")
def rows_of(x, b, low, D, P, Q):
    """x[b, :, low:low + D] (T, D) as rows of Q, padded with zeros to (P, Q), flat."""
    out = np.zeros(P * Q, np.float32)
    for t in range(x.shape[1]):
        source, target = x[b, t, low:low + D], out[t * Q:t * Q + D]
        for d in range(D):
            target[d] = source[d]
    return out


@njit(fastmath=True, error_model="numpy")
def turned_rows_of(x, b, low, D, P, Q, cos, sin):
    """The same for queries and keys, turned where there are angles."""
    out = rows_of(x, b, low, D, P, Q)
    for t in range(min(x.shape[1], len(cos))):
        turn(out[t * Q:t * Q + D], cos, sin, t)
    return out


@njit(fastmath=True, error_model="numpy")
def tiles_of(rows, P, Q):
    """Rows (P, Q) as Q / LANES tiles of (P, LANES)."""
    if Q == LANES:
        return rows
    out = np.empty(P * Q, np.float32)
    for tile in range(Q // LANES):
        for t in range(P):
            source = rows[t * Q + tile * LANES:t * Q + (tile + 1) * LANES]
            target = out[(tile * P + t) * LANES:(tile * P + t + 1) * LANES]
            for j in range(LANES):
                target[j] = source[j]
    return out


@njit(fastmath=True, error_model="numpy")
def transposed(rows, P, Q):
    """Rows (P, Q) turned to (Q, P), flat."""
    out = np.empty(P * Q, np.float32)
    for d in range(Q):
        target = out[d * P:(d + 1) * P]
        for t in range(P):
            target[t] = rows[t * Q + d]
    return out


@njit(fastmath=True, error_model="numpy")
def put_back(tiles, P, T, D, out, b, low):
    """Tiles (P, LANES) -> out[b, :T, low:low + D]."""
    for d in range(0, D, LANES):
        for t in range(T):
            n = min(LANES, D - d)
            source = tiles[d * P + t * LANES:d * P + t * LANES + n]
            target = out[b, t, low + d:low + d + n]
            for j in range(n):
                target[j] = source[j]
