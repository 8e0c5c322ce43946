"""Day 50 · `with fast(): fit(…)` for long texts: attention without the T × T weights.

It contains day 48's `fast`, and so day 38's, and puts flash attention in the place of their
attention. The same models train with the same loss; what falls is memory, and time from some
hundred tokens on. Left out: grouped queries.
"""

import contextlib

from llm.grad.lowering import lower
from llm.kernels import flash
from llm.layers import attention
from llm.train import fast as before
from llm.train import fast_gated

SHORT = 128                      # tokens; shorter texts keep day 38's kernel, which pads them less


@contextlib.contextmanager
def fast():
    """Lower all that day 48 lowers, with flash attention, until the block ends."""
    with fast_gated.fast(), lower(twins()):
        yield


def twins():
    """{primitive: twin} of this day alone; its reference is day 38's twin, which may step aside."""
    pair = before.pair_or_aside(multi_head, flash.multi_head_vjp,
                                *before.twins()[attention.multi_head])
    return {attention.multi_head: pair}


def multi_head(qkv, H, rule=None):
    """kernels.flash.multi_head for texts that are not SHORT."""
    if qkv.ndim == 3 and qkv.shape[1] < SHORT:
        return NotImplemented
    return flash.multi_head(qkv, H, rule)
