"""Day 48 · `with fast(): fit(…)` for models with RMSNorm and SwiGLU: day 38's twins and two more.

Day 38's `fast` cannot know them. This one contains it, so it serves the GPT as well. Left out:
grouped queries, which day 49 brings.
"""

import contextlib

from llm.grad.lowering import lower
from llm.kernels import gated
from llm.layers import gated as layer
from llm.train import fast as before


@contextlib.contextmanager
def fast():
    """Lower all that day 38 lowers, RMSNorm and SwiGLU until the block ends."""
    with before.fast(), lower(twins()):
        yield


def twins():
    """{primitive: twin} of this day alone."""
    pairs = {layer.rmsnorm: (gated.rmsnorm, gated.rmsnorm_vjp),
             layer.swiglu: (gated.swiglu, gated.swiglu_vjp)}
    return {key: before.pair_or_aside(*twin, *key.pair) for key, twin in pairs.items()}
