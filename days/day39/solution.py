"""Day 39 · Solutions of the exercises."""

import numpy as np

from llm.grad import rules
from llm.models.by_hand.arena import place


def attend_in_blocks(matmul, q, k, v, factor, weights, out, size):
    T = q.shape[2]
    for start in range(0, T, size):
        end = min(start + size, T)
        w = weights[:, :, start:end, :end]
        matmul(q[:, :, start:end], k[:, :, :end].mT, w)
        hidden = ~np.tri(end - start, end, start, dtype=bool)
        w[:] = rules.softmax(np.where(hidden, -np.inf, factor * w))[0]
        weights[:, :, start:end, end:] = 0
        matmul(w, v[:, :, :end], out[:, :, start:end])


def search(buffers, tries, rng):
    orders = [sorted(buffers, key=lambda b: -b.nbytes)]
    orders += [[buffers[i] for i in rng.permutation(len(buffers))] for _ in range(tries)]
    return min((place(order) for order in orders), key=lambda found: found[1])
