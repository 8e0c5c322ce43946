"""Day 28 · The causal mask: token t may look at tokens 0 … t and at nothing later.

Two ways to the same numbers. `causal_attention` scores everything and hides the future before the
softmax; it is simple and does twice the work needed. `causal_attention_rows` never visits the
future: it needs no −∞ and (row by row) no mask, and is the form that fast kernels take (day 38).

Left out: other masks (the exercises), and the backward of the second way (days 38 and 50).
"""

import numpy as np

from llm.functions.attention import attention, attention_vjp, check_shapes


def visible_past(T):
    """Booleans (T, T): row t is True at 0 … t."""
    return np.tri(T, dtype=bool)


def causal_attention(q, k, v, bias=None):
    """q, k (..., T, D), v (..., T, Dv) -> out (..., T, Dv), saved; `bias` as in day 30.

    Costs 2·T²·(D + Dv) FLOPs, half of them for weights that are 0.
    Raises ValueError unless there are as many queries as keys.
    Source: Vaswani et al. (2017), section 3.2.3.
    """
    check_causal(q, k, v)
    return attention(q, k, v, visible=visible_past(q.shape[-2]), bias=bias)


causal_attention_vjp = attention_vjp          # hidden keys have weight 0, and so gradient 0


def causal_attention_rows(q, k, v, block=1):
    """The same output without the future: `block` queries at a time meet the keys up to them.

    Row by row (block = 1) exactly T(T + 1)/2 pairs are scored, and nothing is hidden. A larger
    block scores T(T + block)/2 pairs, hides a triangle of them, and gives BLAS larger products.
    Raises ValueError as above, or for a block below 1.
    """
    check_causal(q, k, v)
    if block < 1:
        raise ValueError(f"a block holds 1 query or more, not {block}")
    parts = []
    for t in range(0, q.shape[-2], block):
        queries = q[..., t:t + block, :]                           # (..., b, D)
        end = t + queries.shape[-2]
        visible = np.tri(end - t, end, t, dtype=bool) if block > 1 else None    # (b, end)
        parts.append(attention(queries, k[..., :end, :], v[..., :end, :], visible)[0])
    return np.concatenate(parts, axis=-2)


def check_causal(q, k, v):
    """Query t and key t are the same token, so there are as many of the one as of the other."""
    if q.shape[-2:-1] != k.shape[-2:-1]:
        raise ValueError(f"causal attention wants as many queries as keys, got q {q.shape} "
                         f"and k {k.shape}")
    check_shapes(q, k, v)
