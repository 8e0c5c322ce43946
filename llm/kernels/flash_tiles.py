"""Day 50 · What flash attention's loops are made of: a product in registers, tiles in and out.

Two layouts of a tile are used. ROWS are as the text has them: one token after the other, Q numbers
each. A PANEL is LANES numbers wide: row by row, LANES neighbours in each. In a panel of queries or
scores the LANES neighbours are LANES *queries*: then the maximum and the sum over keys are taken
down the rows, one vector operation for all LANES queries, and nothing is ever added up sideways.

Differs from day 38's tiles.py in the product: SHARED rows of the result wait in registers.
"""

import numpy as np
from numba import njit

from llm.kernels.floats import tile_onto
from llm.kernels.tiles import LANES, SHARED, turn

SUMS = {"reassoc", "contract", "arcp", "nsz"}    # fastmath, but infinity and NaN keep their sense


@njit(error_model="numpy")
def add_rows(out, o, a, start, row, step, x, first, n):
    """out[r] += Σ_{k < n} a[start + r·row + k·step] · x[k] for SHARED rows r of LANES numbers.

    out's rows begin at o, x's at `first`. A row of x that is loaded is used SHARED times.
    """
    tile_onto(a.ctypes.data + 4 * start, 4 * row, 4 * step, x.ctypes.data + 4 * first, 4 * LANES,
              out.ctypes.data + 4 * o, 4 * LANES, n, SHARED, LANES, LANES)


@njit(fastmath=SUMS, error_model="numpy")
def load_rows(x, b, low, D, first, n, Q, cos, sin, rows):
    """rows (n, Q) ← x[b, first : first + n, low : low + D], turned where there are angles.

    Channels D to Q, and tokens past the end of the text, become 0.
    """
    for r in range(n):
        row, t = rows[r * Q:(r + 1) * Q], first + r
        row[:] = 0
        if t < x.shape[1]:
            source = x[b, t, low:low + D]
            for d in range(D):
                row[d] = source[d]
            if t < len(cos):
                turn(row[:D], cos, sin, t)


@njit(fastmath=SUMS, error_model="numpy")
def panel_of(rows, Q, panel):
    """panel (Q, LANES) ← LANES rows of Q, turned over: tokens become lanes."""
    for d in range(Q):
        target = panel[d * LANES:(d + 1) * LANES]
        for j in range(LANES):
            target[j] = rows[j * Q + d]


@njit(fastmath=SUMS, error_model="numpy")
def hide(s, n, diagonal, value):
    """Write `value` into s (n, LANES) where key r comes after query j: r > diagonal + j."""
    for r in range(max(diagonal + 1, 0), n):
        row, hidden = s[r * LANES:(r + 1) * LANES], np.int32(r - diagonal)
        for j in range(LANES):
            row[j] = value if np.int32(j) < hidden else row[j]


@njit(error_model="numpy")
def up(n, multiple):
    """n, rounded up to a multiple."""
    return (n + multiple - 1) // multiple * multiple
