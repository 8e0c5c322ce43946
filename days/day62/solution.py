"""Day 62 · Solutions of the exercises."""

import numpy as np

from llm.scale.allreduce import all_gather, tree_allreduce


def parallel_cross_entropy(comm, logits, targets):
    n, share = logits.shape
    tops = np.zeros((comm.size, n))
    tops[comm.rank] = logits.max(1)
    top = all_gather(comm, tops).max(0)
    local = targets - comm.rank * share
    here = (local >= 0) & (local < share)
    both = np.zeros((2, n))
    both[0] = np.exp(logits - top[:, None]).sum(1)
    both[1, here] = logits[here, local[here]]
    total, wanted = tree_allreduce(comm, both)
    return top + np.log(total) - wanted


def balanced(costs, p):
    """best[k][i]: the slowest of k stages that hold the first i layers, and where the last begins.
    """
    L = len(costs)
    if p > L:
        raise ValueError(f"{p} stages of {L} layers: each needs one")
    best = {(0, 0): (0, 0)}
    for k in range(1, p + 1):
        for i in range(k, L + 1):
            best[k, i] = min((max(best[k - 1, j][0], sum(costs[j:i])), j)
                             for j in range(k - 1, i) if (k - 1, j) in best)
    ends = [L]
    for k in range(p, 0, -1):
        ends.append(best[k, ends[-1]][1])
    ends.reverse()
    return [slice(a, b) for a, b in zip(ends, ends[1:])]
