"""Day 38 · `with fast(): fit(…)` with bfloat16 products in linear layers and in the head.

It contains train/fast.py's `fast`. What it computes is what day 37's
`autocast(BF16, (ops.linear, head))` emulates, with one difference: the result of a product stays a
float32 and is not rounded once more. Parameters, gradients, moments, norms, attention and loss are
float32 as before, so no loss scale is needed: bfloat16 has float32's range. Left out: arrays that
are kept in 16 bits.
"""

import contextlib

from llm.grad import ops
from llm.grad.lowering import lower
from llm.kernels import half
from llm.models.gpt import head
from llm.train import fast as before


@contextlib.contextmanager
def fast():
    """Lower all primitives, two of them to bfloat16 products, until the block ends.

    Every processor may use it; it is faster where `half.NATIVE` is true (AVX512-BF16).
    """
    with before.fast(), lower(twins()):
        yield


def twins():
    """{primitive: twin} of these two; float64 and wrong shapes go to the references."""
    return {ops.linear: before.pair_or_aside(half.linear, half.linear_vjp, *ops.linear.pair),
            head: before.pair_or_aside(half.unembed, half.unembed_vjp, *head.pair)}
