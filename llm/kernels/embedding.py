"""Day 38 · The embedding's backward without conflicts: threads share the channels, not the tokens.

Two tokens may be the same row of the table, so two threads must not add to it at once. Each thread
takes a slice of the channels for all tokens: no lock, and the order of additions is fixed.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.threads import CHUNKS, share


@njit(parallel=True, cache=True)
def scatter_rows(dout, ids, dtable):
    """dtable[ids[n]] += dout[n] for all n; dout (N, C), dtable (V, C)."""
    C = dout.shape[1]
    for chunk in prange(CHUNKS):
        low, high = C * chunk // CHUNKS, C * (chunk + 1) // CHUNKS
        for n in range(ids.size):
            for j in range(low, high):
                dtable[ids[n], j] += dout[n, j]


def embedding(table, ids):
    """The forward is NumPy's own look-up, with the range checked."""
    if (table.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0
            or ids.min() < 0 or ids.max() >= len(table)):
        return NotImplemented                                 # the reference says what is wrong
    ids = ids.astype(np.int64)      # a copy: the backward does not look again what the caller did
    return table[ids], (ids, table.shape)


def embedding_vjp(dout, ids, shape):
    """The twin of rules.embedding_vjp, float32."""
    dtable = np.zeros(shape, np.float32)
    share(dout.size)
    scatter_rows(dout.reshape(-1, shape[1]), ids.reshape(-1), dtable)
    return dtable, None
