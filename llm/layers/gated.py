"""Day 48 · RMSNorm and the SwiGLU feed-forward as modules, for day 33's Block.

Left out: a model made of them (day 49), and biases, which these parts do without.
"""

import math

import numpy as np

from llm.functions import gated
from llm.grad.tensor import primitive
from llm.layers.module import Linear, Module, parameter

rmsnorm = primitive(gated.rmsnorm, gated.rmsnorm_vjp)
swiglu = primitive(gated.swiglu, gated.swiglu_vjp)


class RMSNorm(Module):
    """x (..., C) -> (..., C): each token's channels get a mean square of 1, then the gain.

    C parameters. Source: Zhang & Sennrich (2019).
    """

    def __init__(self, channels, eps=1e-5, dtype=np.float32):
        self.gain = parameter(np.ones(channels, dtype))
        self.eps = eps

    def __call__(self, x):
        return rmsnorm(x, self.gain, eps=self.eps)


class SwiGLU(Module):
    """x (..., C) -> down(silu(gate(x)) · up(x)) (..., C), `hidden` channels between, no biases.

    3·C·hidden parameters. std: of the matrices that read the stream; out_std: of `down`, which
    writes to it; 1/√Cin where not given. Source: Shazeer (2020), eq. 6.
    """

    def __init__(self, channels, hidden, rng, std=None, out_std=None, dtype=np.float32):
        self.gate = Linear(channels, hidden, rng, bias=False, std=std, dtype=dtype)
        self.up = Linear(channels, hidden, rng, bias=False, std=std, dtype=dtype)
        self.down = Linear(hidden, channels, rng, bias=False, std=out_std, dtype=dtype)

    def __call__(self, x):
        return self.down(swiglu(self.gate(x), self.up(x)))


def gated_width(channels, ratio=4, multiple=1):
    """The F at which three matrices (C, F) have the weights of two (C, ratio·C): 2·ratio·C/3.

    Rounded up to a multiple, for kernels that like round widths: 4096 with multiples of 256 gives
    Llama's 11008. Source: Shazeer (2020), section 2, last paragraph; Touvron et al. (2023), 2.2.
    """
    return multiple * math.ceil(2 * ratio * channels / (3 * multiple))


def count_flops(channels, hidden):
    """Of one token's forward in SwiGLU's matrices: 2 for each of 3·C·F weights."""
    return 6 * channels * hidden
