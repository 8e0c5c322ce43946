"""Day 07 · Plug-in entropies: how surprising the next token of a text is, by counting alone.

Counts are put in place of probabilities. While each context occurs many times, the result is close
to the true entropy; where contexts occur once or twice it is far too low (see the note).
Left out: smoothing (day 06) and bias corrections.
"""

import numpy as np


def conditional_entropies(ids, orders):
    """Return (entropies, lonely), each (orders,): entry k is about the next id given k before it.

    ids: (T,) integers ≥ 0. entropies[k] = H(next | k previous) in nats, from counts; lonely[k] is
    the share of positions whose context of k ids occurs once, and so "predicts" without error.
    Costs orders + 1 sorts of T numbers. Raises ValueError for fewer than `orders` ids, and for ids
    that are negative or no integers.
    Source: Shannon (1951), "Prediction and entropy of printed English", section 2 (his F_{k+1}).
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or len(ids) < orders or orders < 1 or ids.size == 0:
        raise ValueError(f"ids of shape {ids.shape} hold no context of {orders - 1} and a next "
                         "id; expected (T,) with T >= orders >= 1")
    if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0:
        raise ValueError(f"ids must be integers from 0 on, not {ids.dtype} from {ids.min()} on; "
                         "encode the text first")
    ids = np.unique(ids, return_inverse=True)[1]       # 0, 1, 2, …: no overflow below
    size = int(ids.max()) + 1
    entropies, lonely = np.zeros(orders), np.zeros(orders)
    contexts = np.zeros(len(ids), np.int64)  # the number of each position's context; all alike
    for k in range(orders):
        _, inside = np.unique(contexts * size + ids[k:], return_inverse=True)  # (T − k,)
        before, after = np.bincount(contexts), np.bincount(inside)
        entropies[k] = (n_log_n(before) - n_log_n(after)) / len(contexts)
        lonely[k] = (before == 1).sum() / len(contexts)
        contexts = inside[:-1]               # a run of k + 1 ids is the next position's context
    return entropies, lonely


def n_log_n(counts):
    """Return Σ n log n over positive counts."""
    counts = counts[counts > 0].astype(np.float64)
    return (counts * np.log(counts)).sum()
