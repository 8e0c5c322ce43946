"""Day 38 · `with fast(): fit(…)`: every primitive of a GPT's training step on its Numba twin.

Left out is the head: it is one matrix product, and BLAS computes that. A twin works on contiguous
float32 arrays. For anything else (float64 in a gradient check, options it has no kernel for) it
steps aside, and the reference runs; it says so by NotImplemented, as Python's own operators do.
"""

import contextlib

import numpy as np

from llm.grad import ops, tensor, walk
from llm.grad.lowering import lower
from llm.kernels import adamw, attention, dense, elementwise, embedding, loss, norm
from llm.kernels.threads import settle
from llm.layers import attention as attention_layer
from llm.layers import norm as norm_layer
from llm.layers import residual
from llm.train import adam, clip, loop
from llm.train.pace import following


@contextlib.contextmanager
def fast():
    """Lower all primitives, the optimizer's update and clipping until the block ends.

    Threads follow what is free (pace.py): what was set before the block, for Numba and the BLAS,
    is the most that is used, and is set again after it.
    """
    settle()
    with following() as paced, lower(twins() | {loop.paced: paced}):
        yield


def twins():
    """{reference: twin}; a pair for a primitive, a function for a plain one."""
    pairs = {
        ops.linear: (dense.linear, dense.linear_vjp),
        ops.gelu: (dense.gelu, dense.gelu_vjp),
        ops.embedding: (embedding.embedding, embedding.embedding_vjp),
        ops.cross_entropy: (loss.cross_entropy, loss.cross_entropy_vjp),
        tensor.add: (elementwise.add, elementwise.add_vjp),
        norm_layer.layernorm: (norm.layernorm, norm.layernorm_vjp),
        attention_layer.multi_head: (attention.multi_head, attention.multi_head_vjp),
        residual.dropout: (elementwise.dropout, elementwise.dropout_vjp),
    }
    plain = {
        adam.adamw_update: adamw.adamw_update,
        clip.squared_norm: adamw.squared_norm,
        clip.scale: adamw.scale,
        walk.add_into: elementwise.add_into,
    }
    lowered = {key: pair_or_aside(*twin, *key.pair) for key, twin in pairs.items()}
    return lowered | {key: plain_or_aside(twin, key) for key, twin in plain.items()}


def pair_or_aside(f, f_vjp, reference, reference_vjp):
    """A pair that tries (f, f_vjp) and, where it does not suit, runs the reference's pair.

    Which of the two ran is written into `saved`, so that the backward takes the same way.
    """
    def forward(*inputs, **options):
        if suits(inputs):
            result = f(*map(contiguous, inputs), **options)
            if result is not NotImplemented:
                return result[0], (f_vjp, *result[1])
        out, saved = reference(*inputs, **options)
        return out, (reference_vjp, *saved)

    def backward(dout, vjp, *saved):
        return vjp(contiguous(dout) if vjp is f_vjp else dout, *saved)

    return forward, backward


def plain_or_aside(f, reference):
    """The same for a function that works in place on its arrays."""
    def call(*args):
        fits = suits(args) and all(a.flags.c_contiguous for a in args if isinstance(a, np.ndarray))
        result = f(*args) if fits else NotImplemented
        return reference.__wrapped__(*args) if result is NotImplemented else result

    return call


def suits(inputs):
    """All floating-point arrays are float32, with at least one axis, and none is empty."""
    return all(x.dtype == np.float32 and x.size and x.ndim for x in inputs
               if isinstance(x, np.ndarray) and x.dtype.kind == "f")


def contiguous(x):
    """The same array where it is contiguous already; a copy where not."""
    return np.asarray(x, order="C") if isinstance(x, np.ndarray) else x
