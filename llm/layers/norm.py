"""Day 21 · LayerNorm and BatchNorm as modules.

Left out: RMSNorm, which keeps only the division (day 48).
"""

import numpy as np

from llm.functions import norm
from llm.functions.sums import total
from llm.grad.tensor import Tensor, primitive
from llm.layers.module import Module, parameter

layernorm = primitive(norm.layernorm, norm.layernorm_vjp)
batchnorm = primitive(norm.batchnorm, norm.batchnorm_vjp)


class LayerNorm(Module):
    """x (..., C) -> (..., C): each token's channels get mean 0 and variance 1, then gain, bias.

    With bias=False there is none.
    """

    def __init__(self, channels, eps=1e-5, dtype=np.float32, bias=True):
        self.gain = parameter(np.ones(channels, dtype))
        self.bias = parameter(np.zeros(channels, dtype)) if bias else None
        self.eps = eps

    def __call__(self, x):
        if self.bias is None:
            return layernorm(x, self.gain, np.zeros_like(self.gain.data), eps=self.eps)
        return layernorm(x, self.gain, self.bias, eps=self.eps)


class BatchNorm(Module):
    """x (..., C) -> (..., C): each channel gets mean 0 and variance 1 over the batch.

    With training=True it uses the batch's statistics and updates the running ones
    (mean ← mean + momentum · (batch mean − mean), and so the variance, whose batch value is divided
    by N − 1). Without, it uses the running ones, and an output does not depend on its neighbours.
    """

    def __init__(self, channels, eps=1e-5, momentum=0.1, dtype=np.float32):
        self.gain = parameter(np.ones(channels, dtype))
        self.bias = parameter(np.zeros(channels, dtype))
        self.mean, self.var = np.zeros(channels, dtype), np.ones(channels, dtype)
        self.eps, self.momentum = eps, momentum

    def __call__(self, x, training=False):
        if not training:
            norm.check("batchnorm", x, self.gain, self.bias)
            rstd = 1 / np.sqrt(self.var + self.eps)
            return (x - Tensor(self.mean)) * (self.gain * Tensor(rstd)) + self.bias
        out = batchnorm(x, self.gain, self.bias, eps=self.eps)   # refuses what does not fit
        rows = x.data.reshape(-1, x.shape[-1])
        mean = total(rows, axis=0) / len(rows)
        unbiased = total((rows - mean) ** 2, axis=0) / (len(rows) - 1)
        self.mean += self.momentum * (mean - self.mean)
        self.var += self.momentum * (unbiased - self.var)
        return out
