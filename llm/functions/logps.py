"""Day 57 · The log-probability of each token of an answer, and its gradient.

What policy gradients, preference losses and KL estimates are all made of. A pair as on day 14; it
keeps two numbers a token for its backward and no second array of the logits' size. Left out: a
fused kernel that never stores the logits either.
"""

import numpy as np

from llm.functions.probability import finite_peak

IGNORE = -100  # the target of a position where nothing counts: the prompt, padding


def token_logps(logits, targets):
    """log softmax(logits)[target] in nats for each target: (..., V) and (...) -> (...).

    targets: integers of 0 … V − 1, or −100 where nothing counts; there the result is exactly 0,
    whatever the logits hold. Returns an array of the logits' dtype and what the backward needs:
    the logits themselves, the targets, and peak and log-sum of the N rows that count.
    5 FLOPs and one exp for each of the N·V logits that count.
    Raises ValueError on shapes that do not fit, targets that are no integers or outside the
    vocabulary (is the model another one?), and rows that are all −∞ or hold +∞.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim == 0 or logits.shape[:-1] != targets.shape or targets.dtype.kind not in "iu":
        raise ValueError(f"token_logps: logits {logits.shape} need integer targets of shape "
                         f"{logits.shape[:-1]}, not {targets.dtype} {targets.shape}")
    kept = targets != IGNORE                                        # (...)
    out = np.zeros(targets.shape, logits.dtype)
    rows, ids = logits[kept], targets[kept]                         # (N, V) and (N,)
    if not ids.size:
        return out, (logits, targets, rows[:, :1], rows[:, :1])
    if ids.min() < 0 or ids.max() >= logits.shape[-1]:
        raise ValueError(f"token_logps: targets from {ids.min()} to {ids.max()} with logits "
                         f"{logits.shape}: this vocabulary has 0 … {logits.shape[-1] - 1}, and "
                         f"{IGNORE} marks what does not count. Was the text cut into tokens for "
                         "another model?")
    peak = finite_peak(rows, -1)                                    # (N, 1)
    shift(rows, peak)
    picked = rows[np.arange(len(ids)), ids]
    log_sum = np.log(np.exp(rows, out=rows).sum(axis=-1, keepdims=True))    # overwrites rows
    out[kept] = picked - log_sum[:, 0]
    return out, (logits, targets, peak, log_sum)


def token_logps_vjp(dout, logits, targets, peak, log_sum):
    """dlogits = dout · (one-hot(target) − p) in the rows that count, 0 elsewhere; p is made anew.

    The logits must be as they were in the forward.
    """
    kept = targets != IGNORE
    dlogits = np.zeros_like(logits)
    rows = logits[kept]
    shift(rows, peak)
    rows -= log_sum
    np.exp(rows, out=rows)                                          # p (N, V)
    weights = dout[kept]
    rows *= -weights[:, None]
    rows[np.arange(len(rows)), targets[kept]] += weights
    dlogits[kept] = rows
    return dlogits, None


def shift(rows, peak):
    """rows ← rows − peak in place; a gap wider than the type can hold is −∞, whose exp is 0."""
    with np.errstate(over="ignore"):
        np.subtract(rows, peak, out=rows)
