"""Day 32 · Residual streams: x + f(norm(x)), and dropout on what a layer adds.

Pre-norm leaves the stream itself untouched from the first layer to the last. The Jacobian of each
layer is then the identity plus that of its branch, so a part of the gradient reaches the first
layer undiminished. Post-norm, as first published, normalises the stream itself.
Left out: branches with a learned scale.
"""

from llm.functions import dropout as gate
from llm.grad.tensor import primitive
from llm.layers.module import Module

dropout = primitive(gate.dropout, gate.dropout_vjp)


class Dropout(Module):
    """Drops with probability `rate` when given an rng, and does nothing without one."""

    def __init__(self, rate):
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate lies in [0, 1), not {rate}")
        self.rate = rate

    def __call__(self, x, rng=None):
        if rng is None or self.rate == 0:
            return x
        return dropout(x, gate.draw_kept(x.shape, self.rate, rng), rate=self.rate)


class Residual(Module):
    """x + dropout(inner(norm(x))), or with pre=False norm(x + dropout(inner(x))).

    Sources: He et al. (2016), eq. 1; Xiong et al. (2020), figure 1 for both orders.
    """

    def __init__(self, inner, norm, dropout=0.0, pre=True):
        self.norm, self.inner, self.dropout, self.pre = norm, inner, Dropout(dropout), pre

    def __call__(self, x, rng=None):
        if self.pre:
            return x + self.dropout(self.branch(self.norm(x), rng), rng)
        return self.norm(x + self.dropout(self.branch(x, rng), rng))

    def branch(self, x, rng):
        """inner(x), with the rng where it draws (dropout on attention weights, day 29)."""
        return self.inner(x, rng) if getattr(self.inner, "draws", False) else self.inner(x)
