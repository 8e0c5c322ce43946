"""Day 39 · What a GPT by hand refuses, before anything is changed.

The kernels check nothing, so whatever does not fit must be found here. Left out: parameters that
were replaced after the arena was made; `GPTByHand.step` looks for those.
"""

import numpy as np

from llm.grad import ops
from llm.models.by_hand import plain
from llm.models.by_hand.weights import paths

IGNORED = -100                                      # a target that asks for nothing


def check_model(model, B, T, workers, functions):
    """ValueError unless `model` is the GPT that text.py is written for."""
    config = model.config
    if B < 1 or not 1 <= T <= config.T:
        raise ValueError(f"B {B} and T {T}: wanted B ≥ 1 and 1 ≤ T ≤ {config.T}, the model's "
                         "longest context")
    if not 1 <= workers <= B:
        raise ValueError(f"{workers} workers for {B} sequences: each wants one at least")
    if config.dropout:
        raise ValueError(f"dropout {config.dropout} is not written out by hand: train with `fit`, "
                         "or without dropout")
    mine, wanted = set(model.named_parameters()), set(paths(config))
    if mine != wanted:
        raise ValueError(f"not the plain GPT: missing {sorted(wanted - mine)[:3]}, unknown "
                         f"{sorted(mine - wanted)[:3]}; train this model with `fit`")
    norms = [model.norm, *(part.norm for b in model.blocks for part in (b.mix, b.think))]
    rules = [b.mix.inner.rule.tables(T) for b in model.blocks]
    plain_parts = all(b.mix.pre and b.think.pre and b.think.inner.activation is ops.gelu
                      and b.mix.inner.H == config.H for b in model.blocks)
    if (not plain_parts or len({n.eps for n in norms}) > 1 or any(r is None for r in rules)
            or len({len(r[0]) for r in rules}) > 1):
        raise ValueError("a block is not GPT-2's (pre-norm, GELU, one ε, positions learned or "
                         "turned by halves): train this model with `fit`")
    dtypes = {p.dtype for p in model.named_parameters().values()}
    if len(dtypes) > 1 or functions is not plain and dtypes != {np.dtype(np.float32)}:
        raise ValueError(f"parameters of {sorted(map(str, dtypes))}: the kernels take float32, "
                         "functions=plain any one type")


def check_batch(ids, targets, B, T, V, mask):
    """How many targets ask for something; mask, bool, ids' shape, becomes True where they do.

    ValueError unless ids and targets are whole numbers, (B, T) or smaller, 0 … V − 1 (or −100).
    Nothing is allocated: `mask` is a function that makes a view of the arena.
    """
    ids, targets = np.asarray(ids), np.asarray(targets)
    if ids.ndim != 2 or ids.size == 0 or ids.shape != targets.shape:
        raise ValueError(f"ids of shape {ids.shape} and targets of shape {targets.shape}: wanted "
                         "(B, T) for both, with B and T at least 1")
    if ids.shape[0] > B or ids.shape[1] > T:
        raise ValueError(f"a batch of shape {ids.shape} in an arena for ({B}, {T}): cut it, or "
                         "make a GPTByHand with a larger B and T")
    if ids.dtype.kind not in "iu" or targets.dtype.kind not in "iu":
        raise ValueError(f"ids of {ids.dtype} and targets of {targets.dtype}: wanted integers")
    if ids.min() < 0 or ids.max() >= V:
        raise ValueError(f"ids from {ids.min()} to {ids.max()}: wanted 0 to {V - 1}")
    asked = mask(ids.shape)
    np.not_equal(targets, IGNORED, out=asked)
    low = targets.min(where=asked, initial=0)
    high = targets.max(where=asked, initial=0)
    if low < 0 or high >= V:
        raise ValueError(f"a target of {low if low < 0 else high}: wanted 0 to {V - 1}, or "
                         f"{IGNORED} where nothing is asked")
    return int(np.count_nonzero(asked))
