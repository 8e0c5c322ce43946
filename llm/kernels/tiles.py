"""Day 38 · Tiles: a head's small matrices, laid out so that a product stays in vector registers.

Every product of the attention kernel is made of one step, `add_tile`: LANES numbers of a result
grow by a weighted sum of rows that are LANES wide. Matrices are flat arrays of such tiles, since
the compiler needs to know a width, and that nothing overlaps, to use whole registers.
"""

import numpy as np
from numba import njit

LANES = 32                      # floats in a tile's row: two registers of 64 bytes


@njit(fastmath=True, error_model="numpy")
def add_tile(out, o, weights, w, rows, r, n):
    """out[o : o + LANES] += Σ_{k < n} weights[w + k] · rows[r + k·LANES : … + LANES], 8 | n."""
    target = out[o:o + LANES]
    for k in range(0, n, 8):
        x = rows[r + k * LANES:r + (k + 8) * LANES]
        c = weights[w + k:w + k + 8]
        c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
        for j in range(LANES):
            target[j] += (c0 * x[j] + c1 * x[j + LANES] + c2 * x[j + 2 * LANES]
                          + c3 * x[j + 3 * LANES] + c4 * x[j + 4 * LANES]
                          + c5 * x[j + 5 * LANES] + c6 * x[j + 6 * LANES]
                          + c7 * x[j + 7 * LANES])


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
