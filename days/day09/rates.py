"""Day 09 · One descent at one rate, watched; the rate beyond which it does not settle; a clock."""

import time

import numpy as np

from llm.functions.probability import kl, softmax
from llm.models import bigram

CLOSE = 1e-3  # nats above counting that we call "there"
LOOK = 1000   # the step at which single contexts are compared
MULTIPLES = [6, 7, 8, 8.5, 9, 10]  # of the safe rate, around the largest that works


def follow(counts, floor, rate, limit):
    """Descend; → the step that came CLOSE or None, [[step, gap]] on a log grid, w at LOOK."""
    grid = {0, 10, 100, LOOK, *np.geomspace(1, limit, 80).round().astype(int).tolist()}
    trace, found = [], {}

    def watch(step, loss, w):
        there = loss - floor < CLOSE
        if step in grid or there:
            trace.append([step, loss - floor])
        if step == LOOK:
            found["w"] = w.copy()
        if there:
            found["step"] = step
        return there

    last = bigram.descend(np.zeros(counts.shape), counts, rate, limit, watch)
    return found.get("step"), trace, found.get("w", last)


def curvatures(counts):
    """(V,): the largest curvature of each row's part of the loss, at the counted table."""
    share, curvature = counts.sum(axis=1) / counts.sum(), np.zeros(len(counts))
    for c in np.flatnonzero(share):
        q = counts[c] / counts[c].sum()
        curvature[c] = share[c] * np.linalg.eigvalsh(np.diag(q) - np.outer(q, q))[-1]
    return curvature


def edge_of_stability(counts):
    """(context, rate): at the counted table a larger rate overshoots in that context's row."""
    curvature = curvatures(counts)
    return int(curvature.argmax()), float(2 / curvature.max())


def beyond_the_edge(counts, w, rate, step):
    """[rows whose own edge is below `rate`, their part of the gap, that of the others, its law].

    w: the table after `step` steps at the one `rate`.
    """
    share, seen = counts.sum(axis=1) / counts.sum(), (counts > 0).sum(axis=1)
    own = np.flatnonzero(share)
    gap = np.zeros(len(counts))
    gap[own] = share[own] * kl(counts[own] / counts[own].sum(axis=1, keepdims=True),
                               softmax(w[own]))
    law = (share > 0) * (len(counts) - seen) * seen / (len(counts) * rate * step)
    over = curvatures(counts) > 2 / rate
    return [int(over.sum()), float(gap[over].sum()), float(gap[~over].sum()),
            float(law[~over].sum())]


def gap_with_start(counts, rate, step):
    """The gap that the law gives if each unseen probability starts at 1/V; rate () or (V, 1)."""
    share, seen, size = counts.sum(axis=1) / counts.sum(), (counts > 0).sum(axis=1), len(counts)
    speed = np.broadcast_to(rate, (size, 1))[:, 0] * share * step
    return float((share * (size - seen) * seen / (size * (np.maximum(seen, 1) + speed))).sum())


def around(counts, floor, safe, steps, advance):
    """Rows [multiple of the safe rate, steps, gap to counting after them / gap by the 1/t law]."""
    rows = []
    for multiple in MULTIPLES:
        rate = multiple * safe
        w = bigram.descend(np.zeros(counts.shape), counts, rate, steps)
        gap = bigram.loss_and_gradient_of_counts(w, counts)[0] - floor
        rows.append([multiple, steps, float(gap * steps / bigram.late_gap(counts, rate))])
        advance(1, f"{multiple} times that")
    return rows


def gradient_times(ids, vocab_size):
    """Median time of the gradient pair by pair over that from counts, for the same pairs."""
    counts, w = bigram.count_pairs(ids, vocab_size), np.zeros((vocab_size, vocab_size))
    ratios = []
    for _ in range(3):
        t0 = time.perf_counter()
        bigram.loss_and_gradient(w, ids[:-1], ids[1:])
        t1 = time.perf_counter()
        for _ in range(20):
            bigram.loss_and_gradient_of_counts(w, counts)
        ratios.append(20 * (t1 - t0) / (time.perf_counter() - t1))
    return float(np.median(ratios))
