"""Day 54 · How far four-bit numbers are from what they stand for, and what a frozen W saves."""

import time

import numpy as np

from llm.functions.lowrank import frozen_linear_vjp
from llm.kernels.dense import linear_vjp
from llm.quantize.int4 import quantise as in_groups
from llm.tune.nf4 import BLOCK, levels, quantise


def nearest(w, steps):
    """Blocks of 64, each weight at the nearest of `steps` times the block's largest."""
    blocks = w.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True)
    scale[scale == 0] = 1
    middles = (steps[1:] + steps[:-1]) / 2
    return (steps[np.searchsorted(middles, blocks / scale)] * scale).reshape(w.shape)


# Scale and minimum, 16 bits each, cost a group what a scale of 32 bits costs a block.
WAYS = [("even levels, scale of 32 bits", 4.5,
         lambda w: nearest(w, np.linspace(-1, 1, 16, dtype=np.float32))),
        ("NF4, scale of 32 bits", 4.5, lambda w: nearest(w, levels())),
        ("NF4, double quantisation", 4 + 8 / 64 + 32 / 64 / 256, lambda w: quantise(w).dense()),
        ("even levels, scale and minimum", 4.5, lambda w: in_groups(w, group=64).dense()),
        ("the same, groups of 32 (day 45)", 5.0, lambda w: in_groups(w).dense())]


def errors(matrices):
    """[[way, bits a weight, relative squared error for each of `matrices`], …]."""
    return [[name, bits, *(float(((f(w) - w) ** 2).sum() / (w**2).sum()) for w in matrices)]
            for name, bits, f in WAYS]


def backward_times(rng, N, cin, cout, repeats):
    """Milliseconds of a linear layer's backward: [with dW, without], the best of `repeats`."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((N, cin), (cin, cout)))
    dout, best = rng.standard_normal((N, cout)).astype(np.float32), [np.inf, np.inf]
    for _ in range(repeats):
        for i, work in enumerate((lambda: linear_vjp(dout, x, w, False),
                                  lambda: frozen_linear_vjp(dout, w))):
            began = time.perf_counter()
            work()
            best[i] = min(best[i], 1000 * (time.perf_counter() - began))
    return best
