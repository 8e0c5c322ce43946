"""Day 11 · Losses of untrained window models, and clocks for the forward pass and the lookup."""

import time

import numpy as np

from llm.functions.embedding import embedding, one_hot
from llm.functions.probability import cross_entropy
from llm.models.window import init, logits

CHANNELS, HIDDEN = 32, 128
STARTS = 10  # random models for each untrained loss


def untrained(size, context, batch, seed, scale=1.0):
    """(STARTS, 5): the loss, its two parts, the mean of all logits, and their variance in a row.

    The parts are log-sum-exp − ln V and the logit of the target. batch: contexts and targets.
    """
    rows = []
    for start in range(STARTS):
        rng = np.random.default_rng([seed, start])
        z = logits(init(size, context, CHANNELS, HIDDEN, rng, scale), batch[0]).astype(np.float64)
        loss, target = cross_entropy(z, batch[1]), z[np.arange(len(z)), batch[1]].mean()
        rows.append([loss, loss + target - np.log(size), target, z.mean(), z.var(axis=-1).mean()])
    return np.array(rows)


def ratios(jobs, repeats):
    """Median time of each job over that of the first; the jobs take turns."""
    times = np.empty((repeats, len(jobs)))
    for i in range(repeats):
        for j, job in enumerate(jobs):
            started = time.perf_counter()
            job()
            times[i, j] = time.perf_counter() - started
    middle = np.median(times, axis=0)
    return (middle / middle[0]).tolist()


def race(vocab_size, rng, repeats):
    """Time of one_hot(ids) @ table over embedding(table, ids), the one-hot rows given."""
    table = rng.standard_normal((vocab_size, CHANNELS), dtype=np.float32)
    ids = rng.integers(0, vocab_size, 1024)
    hot = one_hot(ids, vocab_size)
    return ratios([lambda: embedding(table, ids), lambda: hot @ table], repeats)[1]
