"""Day 27 · Scaled dot-product attention: a dictionary whose look-up is soft, and its backward.

A query is compared with every key; the values are averaged with weights that grow with the match.
Everything here works over any leading axes, so a batch and many heads need no other code.

Left out: hiding the future (day 28), heads (day 29), and doing it without a T × T array (day 50).
"""

import math

import numpy as np

from llm.functions.probability import softmax


def attention(q, k, v, visible=None, bias=None):
    """softmax(q kᵀ/√D + bias) v.

    q (..., Tq, D), k (..., Tk, D), v (..., Tk, Dv) -> out (..., Tq, Dv), saved.
    visible: booleans, broadcast to (..., Tq, Tk); False hides a key, each query must see one.
    bias: numbers added to the scores, broadcast to (..., Tq, Tk); a constant, without gradient.
    A hidden value must still be finite: it meets a weight of 0, and 0 · ∞ is NaN.
    Costs 2·Tq·Tk·(D + Dv) FLOPs and Tq·Tk stored weights, for each leading index.
    Raises ValueError where shapes do not fit or a query sees nothing.
    Source: Vaswani et al. (2017), eq. 1.
    """
    check_shapes(q, k, v)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])      # (..., Tq, Tk)
    if bias is not None:
        check_fits("bias", bias, scores.shape)
        scores = scores + bias.astype(scores.dtype)
    if visible is not None:
        check_visible(visible, scores.shape)
        scores = np.where(visible, scores, -np.inf)
    weights = softmax(scores)                                     # rows sum to 1
    return weights @ v, (q, k, v, weights)


def attention_vjp(dout, q, k, v, weights):
    """Back through the average, the softmax and the scores: dout (..., Tq, Dv) -> dq, dk, dv.

    A hidden key has weight 0, and everything sent to its score is multiplied by that 0: its
    gradient is exactly 0. Costs 4·Tq·Tk·(D + Dv) FLOPs, twice the forward.
    """
    dv = weights.swapaxes(-1, -2) @ dout                          # (..., Tk, Dv)
    dweights = dout @ v.swapaxes(-1, -2)                          # (..., Tq, Tk)
    dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
    dscores /= math.sqrt(q.shape[-1])
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv


def check_shapes(q, k, v):
    """Queries and keys share D; keys and values share Tk; the leading axes are the same."""
    fits = (min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] > 0
            and k.shape[:-1] == v.shape[:-1] and q.shape[:-2] == k.shape[:-2] and k.shape[-2] > 0)
    if not fits:
        raise ValueError(f"attention of q {q.shape}, k {k.shape}, v {v.shape}: wanted "
                         "(..., Tq, D), (..., Tk, D), (..., Tk, Dv) with D ≥ 1 and Tk ≥ 1")


def check_fits(name, array, shape):
    """`array` stretches to the scores' shape and does not stretch them."""
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} {array.shape} does not broadcast to the scores {shape}: "
                         "wanted (..., Tq, Tk)")


def check_visible(visible, shape):
    """Booleans of the right shape, and no query that sees nothing: its softmax would be 0/0."""
    check_fits("visible", visible, shape)
    if visible.dtype != bool:
        raise ValueError(f"visible must hold booleans, not {visible.dtype}; "
                         "numbers to add to the scores are a bias")
    if not visible.any(axis=-1).all():
        raise ValueError(f"visible {visible.shape}: a query sees no key; "
                         "each row needs a True, if only at the query's own place")
