"""Day 60 · Recomputation: forget what the forward pass made, and make it again on the way back.

    y = recompute(function, x)               # keeps x, and no more; backward runs it once more

Gradients are the same, bit for bit: the same operations run on the same numbers. Segments of whole
models are in llm/layers/segment.py. Sources: Griewank & Walther 2000 (checkpointing); Chen et al.
2016, arXiv 1604.06174, section 4 (deep networks). Left out: choosing where a recompute inside a
recompute, which is possible, would pay.
"""

from llm.grad.tensor import Tensor, _recording, no_grad
from llm.grad.walk import Node


def recompute(function, x, rng=None):
    """function(x, rng) -> Tensor, of which only x is kept; backward runs it once more.

    The function must depend on nothing but x, parameters and rng, whose state is put back for the
    second run: dropout drops the same numbers. Gradients of parameters are added to their `.grad`.
    """
    state = None if rng is None else rng.bit_generator.state
    with no_grad():
        data = function(x, rng).data
    out = Tensor(data)
    if _recording.get():
        def vjp(dout):
            inner = Tensor(x.data, requires_grad=True)
            after = None if rng is None else rng.bit_generator.state
            if rng is not None:
                rng.bit_generator.state = state
            function(inner, rng).backward(dout)
            if rng is not None:
                rng.bit_generator.state = after
            return (inner.grad,)
        out.requires_grad = True
        parent = (x.node or x) if x.requires_grad else None
        out.node = Node("recompute", vjp, (), [parent], out.shape, out.dtype)
    return out
