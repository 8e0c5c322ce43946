"""Day 35 · One solution of each exercise."""

import math

import numpy as np

from llm.data.batches import check


def shuffled_epoch(ids, B, T, rng):
    """Windows T apart share no target: the last target of one is the first input of the next."""
    check(ids, B, T)
    ids = np.asarray(ids, np.int32)
    offset = rng.integers(0, min(T, len(ids) - T))
    starts = rng.permutation(np.arange(offset, len(ids) - T, T))
    for i in range(0, len(starts), B):
        rows = ids[starts[i:i + B, None] + np.arange(T + 1)]
        yield rows[:, :-1].copy(), rows[:, 1:].copy()


def keep_best(evaluate, save, every):
    """`best` lives in the closure; NaN < best is false, so a NaN is never kept."""
    best = math.inf

    def hook(step):
        nonlocal best
        if step.step % every == 0 or step.step == step.total:
            loss = evaluate()
            if loss < best:
                best = loss
                save(loss)
    return hook
