"""Day 46 · Distillation: the loss that pulls a small model's distribution towards a large one's.

A pair as on day 14. Left out: mixing with the loss on the text itself, which is a sum of losses.
"""

import numpy as np

from llm.functions.probability import log_softmax


def distill(logits, teacher, temperature=1.0):
    """Mean of τ²·KL(p‖q) in nats over all rows; p, q: softmax of teacher/τ and of logits/τ.

    logits, teacher: (..., V), at least one row; the teacher's get no gradient. Returns a scalar of
    the logits' dtype and what the backward needs. Without the factor τ² gradients would shrink as
    1/τ² for large τ.
    Raises ValueError on different shapes, no rows, or a temperature that is not above 0.
    Source: Hinton, Vinyals and Dean (2015), section 2 and equations 2 to 4.
    """
    if logits.shape != teacher.shape or not logits.size:
        raise ValueError(f"distill: logits {logits.shape} need a teacher of the same shape, not "
                         f"{teacher.shape}, with at least one row")
    if not temperature > 0:
        raise ValueError(f"distill: the temperature must be above 0, not {temperature}")
    scale = np.asarray(1 / temperature, logits.dtype)
    log_q = log_softmax(logits * scale)                                      # (..., V)
    log_p = log_softmax(np.asarray(teacher, logits.dtype) * scale)
    p = np.exp(log_p)
    rows = logits.size // logits.shape[-1]
    gap = np.subtract(log_p, log_q, where=p > 0, out=np.zeros_like(p))       # −∞ − (−∞) is no gap
    kl = np.vdot(p, gap) / rows
    return np.asarray(temperature ** 2 * kl, logits.dtype), (p, log_q, temperature, rows)


def distill_vjp(dout, p, log_q, temperature, rows):
    """τ·(q − p) / rows: τ² of the loss times 1/τ of the logits' scale; the teacher gets none."""
    dlogits = np.exp(log_q)
    dlogits -= p
    dlogits *= np.asarray(dout * temperature / rows, dlogits.dtype)
    return dlogits, None
