"""Day 11 · Solutions: a longer window with the same answers, and a first layer of lookups."""

import numpy as np


def lengthen(parameters, extra):
    """Older tokens come first in a window: rows of zeros in front of w1, which ignore them."""
    new = {name: array.copy() for name, array in parameters.items()}
    rows = extra * new["table"].shape[1]
    new["w1"] = np.pad(new["w1"], ((rows, 0), (0, 0)))
    return new


def fuse(table, w1):
    """The C rows of w1 that belong to position t, multiplied by the table: a batch of products."""
    table, w1 = np.asarray(table), np.asarray(w1)
    blocks = w1.reshape(-1, table.shape[1], w1.shape[1])  # (T, C, hidden)
    return table @ blocks                                 # (V, C) · (T, C, hidden)
