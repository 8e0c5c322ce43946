"""Day 49 · Pooling: a model with many heads of keys and values becomes one with few.

Deals in names and arrays; the caller loads the result into a model of the other shape and trains
it for a while ("uptraining"). Left out: choosing which heads share, or turning them towards each
other first (an exercise).
"""

import numpy as np

ENDS = "qkv.w", "qkv.b"


def mean(heads):
    """(…, G, D) -> (…, D): the G heads of a group become their mean."""
    return heads.mean(axis=-2)


def pool_heads(state, H, K, to, join=mean):
    """{name: array} with K heads of keys and values -> the same with `to` of them.

    Heads that stand side by side form a group, as query heads do. An array whose name ends in
    `qkv.w` (Cin, (H + 2K)·D) or `qkv.b` ((H + 2K)·D,) becomes one of H + 2·to heads; all others
    are handed on, not copied. join: what makes one head (…, D) of a group (…, G, D).
    Raises ValueError where `to` does not divide K, or K does not divide H, where there is nothing
    to pool, or where an array does not have H + 2K heads.
    Source: Ainslie et al. (2023), section 2.1.
    """
    if H < 1 or K < 1 or to < 1 or H % K or K % to:
        raise ValueError(f"cannot pool {K} heads of keys and values, for {H} of queries, to {to}: "
                         "each number must divide the one before")
    pooled = {name: pool(name, array, H, K, to, join) if name.endswith(ENDS) else array
              for name, array in state.items()}
    if not any(name.endswith(ENDS) for name in state):
        raise ValueError(f"nothing to pool: no name among {sorted(state)[:4]} … ends in "
                         f"{' or '.join(ENDS)}")
    return pooled


def pool(name, array, H, K, to, join):
    """One array (…, (H + 2K)·D) -> (…, (H + 2·to)·D)."""
    width = array.shape[-1]
    if width % (H + 2 * K):
        raise ValueError(f"{name} {array.shape} does not hold {H} + 2·{K} heads: is this another "
                         "model?")
    D, lead = width // (H + 2 * K), array.shape[:-1]
    queries, shared = np.split(array, [H * D], axis=-1)
    groups = shared.reshape(*lead, 2, to, K // to, D)           # keys, then values
    joined = join(groups).reshape(*lead, 2 * to * D)
    return np.concatenate([queries, joined.astype(array.dtype, copy=False)], axis=-1)
