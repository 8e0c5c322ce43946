"""Day 50 · What flash attention's loops are made of: a product in registers, tiles in and out.

Two layouts of a tile are used. ROWS are as the text has them: one token after the other, Q numbers
each. A PANEL is LANES numbers wide: row by row, LANES neighbours in each. In a panel of queries or
scores the LANES neighbours are LANES *queries*: then the maximum and the sum over keys are taken
down the rows, one vector operation for all LANES queries, and nothing is ever added up sideways.

Differs from day 38's tiles.py in the product: four rows of the result share what is loaded.
"""

import numpy as np
from numba import njit

from llm.kernels.tiles import LANES, turn

SUMS = {"reassoc", "contract", "arcp", "nsz"}    # fastmath, but infinity and NaN keep their sense


@njit(fastmath=SUMS, error_model="numpy")
def add_rows(out, o, a, start, row, step, x, first, n):
    """out[r] += Σ_{k < n} a[start + r·row + k·step] · x[k] for four rows r of LANES numbers; 4 | n.

    out's rows begin at o, x's at `first`. 16 numbers of a and 4 rows of x make 64 · LANES
    operations of what is loaded once: the sums wait in the cache, and little else does.
    """
    sums = out[o:o + 4 * LANES]
    for k in range(0, n, 4):
        y = x[first + k * LANES:first + (k + 4) * LANES]
        i = start + k * step
        a00, a01, a02, a03 = a[i], a[i + step], a[i + 2 * step], a[i + 3 * step]
        i += row
        a10, a11, a12, a13 = a[i], a[i + step], a[i + 2 * step], a[i + 3 * step]
        i += row
        a20, a21, a22, a23 = a[i], a[i + step], a[i + 2 * step], a[i + 3 * step]
        i += row
        a30, a31, a32, a33 = a[i], a[i + step], a[i + 2 * step], a[i + 3 * step]
        for j in range(LANES):
            y0, y1, y2, y3 = y[j], y[j + LANES], y[j + 2 * LANES], y[j + 3 * LANES]
            sums[j] += a00 * y0 + a01 * y1 + a02 * y2 + a03 * y3
            sums[j + LANES] += a10 * y0 + a11 * y1 + a12 * y2 + a13 * y3
            sums[j + 2 * LANES] += a20 * y0 + a21 * y1 + a22 * y2 + a23 * y3
            sums[j + 3 * LANES] += a30 * y0 + a31 * y1 + a32 * y2 + a33 * y3


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
