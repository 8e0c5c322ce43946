"""Day 54 · Keep less: two cheap intermediate results are made again on the way back.

With a frozen base the weights' gradients are gone, and memory is what the forward keeps. Two of
its largest arrays are cheap to make again from others that are kept anyway: silu(gate) · up, F
numbers a token, and the keys and values written once for each query head (day 49's `spread`).
Everything a model does stays the same, to the bit. Left out: making whole blocks again (day 60).
"""

from llm.grad.lowering import twin_of
from llm.grad.tensor import primitive
from llm.layers.attention import multi_head
from llm.layers.gated import SwiGLU, swiglu
from llm.layers.grouped import GroupedAttention, spread
from llm.layers.module import Module
from llm.tune.lora import LoRALinear, lora

HOLE = object()              # stands in a record for the array that will be made again


def without_middle(first, second, n):
    """The primitive second(first(*n inputs), *rest), which does not keep what `first` makes.

    first, second: primitives; the result of `first` is the first input of `second`. Their twins
    are used where they are lowered. Options: of_first, of_second, two dicts.
    """
    def forward(*inputs, of_first, of_second):
        (f, f_vjp), (g, g_vjp) = twin_of(first, first.pair), twin_of(second, second.pair)
        middle, _ = f(*inputs[:n], **of_first)
        out, saved = g(middle, *inputs[n:], **of_second)
        kept = (HOLE if array is middle else array for array in saved)
        return out, (f, f_vjp, g_vjp, of_first, *inputs[:n], *kept)

    def backward(dout, f, f_vjp, g_vjp, of_first, *kept):
        middle, saved = f(*kept[:n], **of_first)
        gradients = g_vjp(dout, *(middle if array is HOLE else array for array in kept[n:]))
        return (*f_vjp(gradients[0], *saved), *gradients[1:])

    forward.__name__ = f"{second.__name__} of {first.__name__}"
    return primitive(forward, backward)


lora_of_swiglu = without_middle(swiglu, lora, 2)
heads_of_spread = without_middle(spread, multi_head, 1)


class LeanSwiGLU(Module):
    """A SwiGLU whose `down` has an adapter; the parts are the same objects."""

    def __init__(self, old):
        self.gate, self.up, self.down = old.gate, old.up, old.down

    def __call__(self, x):
        down = self.down
        if not isinstance(down, LoRALinear):           # a frozen `down` does not keep its input
            return down(swiglu(self.gate(x), self.up(x)))
        return lora_of_swiglu(self.gate(x), self.up(x), down.a, down.b, down.base.weight,
                              down.base.b, of_first={},
                              of_second={"scale": down.scale, "widths": down.widths})


class LeanAttention(Module):
    """A GroupedAttention that keeps K heads of keys and values for the way back, and not H."""

    def __init__(self, old):
        self.H, self.K, self.rule = old.H, old.K, old.rule
        self.qkv, self.project = old.qkv, old.project

    def __call__(self, x):
        return self.project(heads_of_spread(self.qkv(x), of_first={"H": self.H, "K": self.K},
                                            of_second={"H": self.H, "rule": self.rule}))


def lean(model):
    """Replace every SwiGLU and GroupedAttention of the model by the lean kind; returns how many."""
    found = [(path, part) for path, part in model.named((SwiGLU, GroupedAttention))]
    for path, part in found:
        model.replace(path, (LeanSwiGLU if isinstance(part, SwiGLU) else LeanAttention)(part))
    return len(found)
