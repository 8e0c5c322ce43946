"""Day 16 · One solution of each exercise."""

import numpy as np

from llm.functions.probability import log_softmax
from llm.grad import ops
from llm.layers.module import Module, parameter


class LowRank(Module):
    """x (..., Cin) -> x A B + b (..., Cout)."""

    def __init__(self, a, b, bias):
        self.a, self.b, self.bias = a, b, bias

    def __call__(self, x):
        return ops.linear(ops.linear(x, self.a, None), self.b, self.bias)


def low_rank(layer, rank):
    """The first `rank` terms of the singular value decomposition: day 02."""
    u, s, vt = np.linalg.svd(layer.w.data, full_matrices=False)
    root = np.sqrt(s[:rank])                     # half of each stretch to either side
    return LowRank(parameter(u[:, :rank] * root), parameter(root[:, None] * vt[:rank]),
                   None if layer.b is None else parameter(layer.b.data.copy()))


def geometric_mix(a, b, weight):
    """A weighted mean of logits, for which only the sum is missing: a softmax supplies it."""
    return log_softmax(weight * a + (1 - weight) * b)
