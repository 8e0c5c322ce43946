"""Day 38 · Softmax and cross-entropy in one kernel.

Differs from rules.cross_entropy in what it saves: the logits, which are there already, and one
log-sum-exp a row. The reference writes a second array, of log-probabilities, and keeps that; with
a vocabulary of 50,257 no array is larger.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.threads import share


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def log_sum_exp_rows(logits, lse):
    """lse (N,) ← log Σ exp(logits (N, V)), the largest taken out first."""
    for i in prange(logits.shape[0]):
        top = logits[i, 0]
        for j in range(logits.shape[1]):
            top = max(top, logits[i, j])
        total = np.float32(0)
        for j in range(logits.shape[1]):
            total += exp32(logits[i, j] - top)
        lse[i] = top + np.log(total)


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def softmax_minus_target(logits, lse, targets, ignore, factor, out):
    """out ← factor · (exp(logits − lse) − one-hot(target)); 0 in rows to ignore."""
    for i in prange(logits.shape[0]):
        if targets[i] == ignore:
            out[i] = 0
        else:
            for j in range(logits.shape[1]):
                out[i, j] = factor * exp32(logits[i, j] - lse[i])
            out[i, targets[i]] -= factor


def valid(targets, ignore, V):
    """Every target that counts is an id."""
    kept = targets[targets != ignore]
    return kept.size == 0 or (kept.min() >= 0 and kept.max() < V)


def cross_entropy(logits, targets, ignore=-100):
    """The twin of rules.cross_entropy, float32: logits (..., V), targets (...) -> the mean loss."""
    rows, flat = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    if (targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu"
            or not valid(flat, ignore, rows.shape[1])):
        return NotImplemented                                 # the reference says what is wrong
    flat = flat.astype(np.int64)        # a copy: the backward does not look again
    lse = np.empty(len(rows), np.float32)
    share(4 * rows.size)
    log_sum_exp_rows(rows, lse)
    kept = np.flatnonzero(flat != ignore)
    nll = lse[kept] - rows[kept, flat[kept]]
    loss = nll.sum(dtype=np.float64) / max(len(kept), 1)
    return np.asarray(loss, np.float32), (logits, lse, flat, ignore, max(len(kept), 1))


def cross_entropy_vjp(dout, logits, lse, flat, ignore, count):
    """dlogits = (dout / count) · (p − one-hot(target)), p made again as exp(logits − lse)."""
    out = np.empty(logits.shape, np.float32)
    V = logits.shape[-1]
    share(4 * logits.size)
    softmax_minus_target(logits.reshape(-1, V), lse, flat, ignore,
                         np.float32(dout / count), out.reshape(-1, V))
    return out, None
