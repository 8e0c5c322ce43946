"""Day 33 · The block: attention lets tokens talk, the feed-forward lets each think.

Each of the two stands in a residual branch of its own. Both parts and their norms are arguments,
so that later days can bring others. Left out: stacking blocks and a model around them (day 34).
"""

import numpy as np

from llm.grad import ops
from llm.layers.module import Linear, Module
from llm.layers.residual import Residual


class FeedForward(Module):
    """x (..., C) -> down(gelu(up(x))) (..., C), with `ratio`·C channels between.

    Parameters: 2·ratio·C² + (ratio + 1)·C, or 2·ratio·C² with bias=False.
    Raises ValueError unless ratio·C is a whole number from 1 on.
    """

    def __init__(self, channels, rng, ratio=4, activation=ops.gelu, std=None, out_std=None,
                 bias=True, dtype=np.float32):
        hidden = int(ratio * channels)
        if hidden < 1 or hidden != ratio * channels:
            raise ValueError(f"ratio {ratio} makes {ratio * channels} hidden channels of "
                             f"{channels}: give a ratio that makes a whole number, at least 1")
        self.up = Linear(channels, hidden, rng, bias, std, dtype)
        self.down = Linear(hidden, channels, rng, bias, out_std, dtype)
        self.activation = activation

    def __call__(self, x):
        return self.down(self.activation(self.up(x)))


class Block(Module):
    """x (B, T, C) -> x + mixer(norm1(x)), then + feed_forward(norm2(·)). Pre-norm.

    mixer: what moves information between tokens; feed_forward: what works on each by itself.
    """

    def __init__(self, norm1, mixer, norm2, feed_forward, dropout=0.0):
        self.mix = Residual(mixer, norm1, dropout)
        self.think = Residual(feed_forward, norm2, dropout)

    def __call__(self, x, rng=None):
        return self.think(self.mix(x, rng), rng)


def count_parameters(C, ratio=4):
    """Of one block: attention 4C² + 4C, feed-forward 2rC² + (r + 1)C, two norms 4C."""
    return 4 * C * C + 4 * C + 2 * ratio * C * C + (ratio + 1) * C + 4 * C


def count_flops(C, T, ratio=4):
    """Forward FLOPs for one token of one block: 2 per weight, and 4TC for scores and average.

    Norms, GELU and softmax are left out: they are O(C) and O(T) a token.
    """
    return 2 * (4 + 2 * ratio) * C * C + 4 * T * C


def count_saved(C, T, H, ratio=4):
    """Numbers that one block's forward keeps for its backward, for one token (no dropout, no rule).

    Mixing: C + 1 of the norm (normalised x, 1/σ), C into qkv, 3C of q, k, v, HT weights, C into
    `project`. Thinking: C + 1 of the norm, C into up, rC into GELU, rC into down.
    """
    return (8 + 2 * ratio) * C + H * T + 2
