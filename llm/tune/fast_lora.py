"""Day 54 · `with fast(): fit(…)` for frozen models with adapters, in float32 or 4 bits.

Day 50's `fast`, and twins for today's primitives and for day 49's `spread`. Left out: frozen layers
with a bias and no adapter, for which the reference runs.
"""

import contextlib
import functools

from llm.functions import chunked
from llm.grad.lowering import lower
from llm.kernels import grouped, lowrank, nf4
from llm.layers.grouped import spread
from llm.train import fast as before
from llm.train import fast_flash
from llm.tune import lora
from llm.tune.nf4 import expand


@contextlib.contextmanager
def fast():
    """Lower all that day 50 lowers, and LoRA, frozen layers, the head's loss and NF4."""
    with fast_flash.fast(), lower(twins()):
        yield


def twins():
    """{reference: twin} of this day alone."""
    head = functools.partial(chunked.head_loss, softmax=lowrank.softmax_grad)
    pairs = {lora.lora: (lowrank.lora, lowrank.lora_vjp),
             lora.frozen_linear: (lowrank.frozen_linear, lowrank.frozen_linear_vjp),
             lora.head_loss: (head, chunked.head_loss_vjp),
             spread: (grouped.spread, grouped.spread_vjp)}
    return {key: before.pair_or_aside(*twin, *key.pair) for key, twin in pairs.items()} | {
        expand: nf4.expand}
