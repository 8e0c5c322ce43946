"""Day 22 · Recurrent layers: the GRU and the plain tanh network, with the state as an argument.

A layer takes the state before its first token and returns the states after each. It keeps none
itself, so two texts cannot mix. Left out: dropout, both directions, layer norm inside the cell.
"""

import math

import numpy as np

from llm.functions import gru as pairs
from llm.functions import rnn as plain
from llm.grad.tensor import primitive
from llm.layers.module import Module, parameter

gru = primitive(pairs.gru, pairs.gru_vjp)
rnn = primitive(plain.rnn, plain.rnn_vjp)


class GRU(Module):
    """x (B, T, Cin), h0 (B, C) -> states (B, T, C); 3·C·(Cin + C) + 4·C parameters.

    keep: the update gate's bias at the start, so that u begins near σ(keep): 0 keeps half of the
    state a token, 1 keeps .73. Weights ~ N(0, 1/Cin) and N(0, 1/C).
    """

    def __init__(self, cin, channels, rng, keep=0.0, reset_after=True, dtype=np.float32):
        C = channels
        self.w = parameter(normal(rng, cin, 3 * C, dtype))
        self.wh = parameter(normal(rng, C, 3 * C, dtype))
        self.b = parameter(np.repeat([0, keep, 0], C).astype(dtype))
        self.bh = parameter(np.zeros(C, dtype))
        self.reset_after = reset_after

    def __call__(self, x, h0):
        return gru(x, h0, self.w, self.wh, self.b, self.bh, reset_after=self.reset_after)


class RNN(Module):
    """x (B, T, Cin), h0 (B, C) -> states (B, T, C); C·(Cin + C) + C parameters."""

    def __init__(self, cin, channels, rng, dtype=np.float32):
        self.w = parameter(normal(rng, cin, channels, dtype))
        self.wh = parameter(normal(rng, channels, channels, dtype))
        self.b = parameter(np.zeros(channels, dtype))

    def __call__(self, x, h0):
        return rnn(x, h0, self.w, self.wh, self.b)


def normal(rng, cin, cout, dtype):
    """Weights (cin, cout) with a standard deviation of 1/√cin."""
    return (rng.standard_normal((cin, cout)) / math.sqrt(cin)).astype(dtype)
