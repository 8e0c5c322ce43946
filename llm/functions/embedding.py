"""Day 11 · The embedding: row `id` of a table, which is a one-hot vector times that table.

Forward only. Left out: the gradient, which must add up repeated ids (day 14).
"""

import numpy as np


def embedding(table, ids):
    """Rows of `table`: table (V, C), integer ids (...) → (..., C), a copy in table's dtype.

    No FLOPs; it reads and writes C numbers an id, whatever V is.
    Raises: ValueError naming the first id outside 0 … V − 1, its position and V. NumPy alone
    would take −1 for the last row and say nothing.
    Source: Bengio et al. 2003, section 2 (the matrix C).
    """
    table, ids = np.asarray(table), np.asarray(ids)
    if table.ndim != 2:
        raise ValueError(f"embedding: table must be (V, C), not {table.shape}")
    if ids.size == 0:
        return np.empty((*ids.shape, table.shape[1]), table.dtype)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"embedding: ids {ids.shape} must be integers, not {ids.dtype}; "
                         "encode the text first")
    size = len(table)
    if ids.min() < 0 or ids.max() >= size:
        where = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= size))[0])
        place = where[0] if len(where) == 1 else where
        raise ValueError(f"embedding: id {ids[where]} at position {place} is outside the table "
                         f"{table.shape}: V is {size}, so ids go from 0 to {size - 1}")
    return table[ids]  # (..., C)


def one_hot(ids, vocab_size, dtype=np.float32):
    """A row with a single 1 for each id: ids (...) → (..., V); one_hot(ids, V) @ table looks up.

    For proofs and tests: it spends V numbers to say what one integer says.
    Raises: ValueError as `embedding` does.
    """
    ids = np.asarray(ids)
    embedding(np.empty((vocab_size, 0)), ids)  # says what is wrong with the ids
    return (ids[..., None] == np.arange(vocab_size)).astype(dtype)
