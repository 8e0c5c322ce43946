"""Day 60 · Segments: blocks that keep their input only, and attention that keeps no weights.

    with recomputing(model, 2):              # two blocks a segment
        loss = model.loss(ids, targets)      # keeps the input of each segment, and no more
        loss.backward()                      # runs each segment's forward a second time

    with lower(SELECTIVE):                   # keeps neither attention weights nor turned q and k
        ...

Sources: Chen et al. 2016, arXiv 1604.06174, section 4; Korthikanti et al. 2022, arXiv 2205.05198,
section 5 (selective). Left out: segments of unequal cost.
"""

import contextlib

from llm.functions import heads
from llm.grad.recompute import recompute
from llm.layers.attention import multi_head
from llm.layers.module import Module


class Segment(Module):
    """Some blocks in a row, run as one piece that keeps its input only."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __call__(self, x, rng=None):
        return recompute(self.run, x, rng)

    def run(self, x, rng):
        for block in self.blocks:
            x = block(x, rng)
        return x


@contextlib.contextmanager
def recomputing(model, size):
    """Inside, each `size` blocks of `model.blocks` are a segment. Take parameters before or after:
    in here they have other names. Raises ValueError unless size is 1 or more."""
    if size < 1:
        raise ValueError(f"segments of {size} blocks: at least 1")
    blocks = model.blocks
    model.blocks = [Segment(blocks[i:i + size]) for i in range(0, len(blocks), size)]
    try:
        yield model
    finally:
        model.blocks = blocks


def light_multi_head(qkv, H, rule=heads.NO_RULE):
    """As `multi_head`, but nothing is saved besides what it was given."""
    return heads.multi_head(qkv, H, rule)[0], (qkv, H, rule)


def light_multi_head_vjp(dout, qkv, H, rule):
    """Score again, then day 29's backward: 4·T·C FLOPs a token more."""
    return heads.multi_head_vjp(dout, *heads.multi_head(qkv, H, rule)[1])


SELECTIVE = {multi_head: (light_multi_head, light_multi_head_vjp)}
