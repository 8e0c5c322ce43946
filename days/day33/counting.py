"""Day 33 · Counts and times the products that really happen, by watching every matmul of NumPy.

An ndarray subclass sees each ufunc before it runs, and `lower` puts a watching twin in the place
of every primitive, so nothing of the block is changed. One thing is restated: the forward of
`linear` makes plain arrays of its inputs before it multiplies, so xW + b stands here again.
"""

import contextlib
import time

import numpy as np

from llm.grad import ops, tensor
from llm.grad.lowering import lower
from llm.layers import attention, norm, residual

PRIMITIVES = [ops.linear, ops.gelu, tensor.add, attention.multi_head, norm.layernorm,
              residual.dropout]


class Watched(np.ndarray):
    """An array whose matmuls are added to `Watched.flops`: 2·N·K·M each, batches included.

    `Watched.seconds` is the time they took.
    """

    flops, seconds = 0, 0.0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = [bare(x) for x in inputs]
        if out is not None:
            options["out"] = tuple(bare(x) for x in out)
        started = time.perf_counter()
        result = getattr(ufunc, method)(*inputs, **options)
        if ufunc is np.matmul:
            Watched.seconds += time.perf_counter() - started
            Watched.flops += 2 * result.size * inputs[0].shape[-1]
        return watched(result)


def bare(x):
    """The same memory as a plain array."""
    return x.view(np.ndarray) if isinstance(x, Watched) else x


def watched(x):
    """The same memory as a watched array, also inside tuples."""
    if isinstance(x, tuple):
        return tuple(watched(item) for item in x)
    return x.view(Watched) if isinstance(x, np.ndarray) else x


def watching(f):
    """f on watched arrays; what comes out is plain again."""
    def call(*inputs, **options):
        result = f(*[watched(x) for x in inputs], **options)
        return tuple(tuple(map(bare, part)) if isinstance(part, tuple) else bare(part)
                     for part in result)
    return call


def linear(x, w, b=None):
    """What rules.linear does, on watched arrays."""
    y = (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])
    return y if b is None else y + b, (x, w, b is not None)


@contextlib.contextmanager
def counted():
    """`with counted() as flops:` … `flops()` is the number so far, of forward and backward."""
    Watched.flops, Watched.seconds = 0, 0.0
    pairs = {p: p.pair for p in PRIMITIVES} | {ops.linear: (linear, ops.linear.pair[1])}
    with lower({p: tuple(map(watching, pair)) for p, pair in pairs.items()}):
        yield lambda: Watched.flops
