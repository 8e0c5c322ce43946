"""Day 53 · Pick rows: some positions of a batch, in another arrangement, and the way back.

Left out: a row picked twice. Then the backward would have to add (day 14's embedding does).
"""

import numpy as np


def pick(x, index):
    """x (..., C) seen as rows (N, C); index (...) of row numbers, −1 for none -> (*index.shape, C).

    Rows of none are 0. Moves numbers only: no FLOPs, 2 reads and writes of each.
    Raises ValueError for a row outside −1 … N − 1 or one that is picked twice.
    """
    rows = x.reshape(-1, x.shape[-1])
    index = np.asarray(index)
    there = index >= 0
    chosen = index[there]
    if index.size and not -1 <= index.min() <= index.max() < len(rows):
        raise ValueError(f"rows {index.min()} … {index.max()} of an x {x.shape} that has "
                         f"{len(rows)}: wanted 0 … {len(rows) - 1}, or −1 for none")
    if (np.bincount(chosen) > 1).any():
        raise ValueError(f"row {np.bincount(chosen).argmax()} is picked twice; once is the most")
    out = np.zeros((*index.shape, x.shape[-1]), x.dtype)
    out[there] = rows[chosen]
    return out, (x.shape, there, chosen)


def pick_vjp(dout, shape, there, chosen):
    """Gradients go back to where the rows came from; rows that were not picked get 0."""
    dx = np.zeros(shape, dout.dtype)
    dx.reshape(-1, shape[-1])[chosen] = dout[there]
    return dx, None
