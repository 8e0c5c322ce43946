"""Day 10 · What six activations cost beside the product that feeds them."""

import time

import numpy as np

from llm.functions import dense

ACTIVATIONS = [dense.relu, dense.tanh, dense.sigmoid, dense.silu, dense.gelu, dense.gelu_erf]
ROWS, CIN, COUT = 768, 128, 512  # the widening layer of a small GPT: B·T tokens, C → 4C
FEW = 48                         # so many of the rows fit into a core's own cache


def where_sigmoid(x):
    """The sigmoid with a choice for each entry."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, np.float32(1), e) / (1 + e)


def medians(rng, repeats, jobs):
    """The median seconds of each job, over rounds that run them in an order drawn anew."""
    times = np.empty((repeats, len(jobs)))
    for i in range(repeats):
        for j in rng.permutation(len(jobs)):
            started = time.perf_counter()
            jobs[j]()
            times[i, j] = time.perf_counter() - started
    return np.median(times, axis=0).tolist()


def clock(rng, repeats):
    """The fields of the day's result that are times, from medians over `repeats` rounds."""
    x = rng.standard_normal((ROWS // 64, 64, CIN), dtype=np.float32)
    w = rng.standard_normal((CIN, COUT), dtype=np.float32) / np.float32(np.sqrt(CIN))
    z = dense.linear(x, w)                               # (12, 64, COUT)
    in_order = np.sort(z, axis=None).reshape(z.shape)    # the same numbers, negative ones first
    product, where, where_in_order, add, *each = medians(rng, repeats, [
        lambda: dense.linear(x, w),
        lambda: where_sigmoid(z), lambda: where_sigmoid(in_order), lambda: z + 1,
        *(lambda f=f: f(z) for f in ACTIVATIONS)])
    few = z.reshape(ROWS, COUT)[:FEW]
    zeros = np.zeros_like(few)
    of_number, of_array = medians(rng, 20 * repeats, [
        lambda: np.maximum(few, 0), lambda: np.maximum(few, zeros)])
    return {"share_of_linear": [seconds / product for seconds in each],
            "linear_gflops": 2 * ROWS * CIN * COUT / product / 1e9,
            "where_over_ours": where / each[ACTIVATIONS.index(dense.sigmoid)],
            "where_in_order": where_in_order / where,
            "add_of_linear": add / product, "number_over_array": of_number / of_array}
