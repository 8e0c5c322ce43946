"""Day 10 · What six activations cost beside the product that feeds them."""

import time

import numpy as np

from llm.functions import dense

ACTIVATIONS = [dense.relu, dense.tanh, dense.sigmoid, dense.silu, dense.gelu, dense.gelu_erf]
ROWS, CIN, COUT = 768, 128, 512  # the widening layer of a small GPT: B·T tokens, C → 4C


def where_sigmoid(x):
    """The sigmoid with a branch for each entry."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), e) / (1 + e)


def clock(rng, repeats):
    """The fields of the day's result that are times, from medians over `repeats` rounds."""
    x = rng.standard_normal((ROWS // 64, 64, CIN), dtype=np.float32)
    w = rng.standard_normal((CIN, COUT), dtype=np.float32) / np.float32(np.sqrt(CIN))
    z = dense.linear(x, w)
    short, square = rng.standard_normal((64, 8, CIN), dtype=np.float32), w[:, :CIN].copy()
    jobs = [lambda: dense.linear(x, w), lambda: short @ square,
            lambda: dense.linear(short, square), lambda: where_sigmoid(z), lambda: z + 1,
            *(lambda f=f: f(z) for f in ACTIVATIONS)]
    times = np.empty((repeats, len(jobs)))
    for i in range(repeats):
        for j in rng.permutation(len(jobs)):  # another order each time: who comes first finds z
            started = time.perf_counter()     # in memory, who comes second finds it in the cache
            jobs[j]()
            times[i, j] = time.perf_counter() - started
    product, as_it_is, reshaped, where, add, *each = np.median(times, axis=0).tolist()
    relu, ours = each[0], each[ACTIVATIONS.index(dense.sigmoid)]
    return {"share_of_linear": [seconds / product for seconds in each],
            "linear_gflops": 2 * ROWS * CIN * COUT / product / 1e9,
            "leading_axes": as_it_is / reshaped, "where_over_ours": where / ours,
            "add_over_relu": add / relu}
