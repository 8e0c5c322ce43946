"""Day 54 · LoRA: freeze a model, and train a product of two thin matrices beside each of its own.

    adapters = add_lora(model, rank=8, alpha=16, rng=rng)
    with fast(): fit(model.named_parameters(), loss, …)       # only A and B are named now
    kept = merge(model)            # W + s·A·B: a plain model again, as fast as before
    unmerge(model, kept)           # the adapters are back, and W is what it always was

It comes in through Module.replace, so the models know nothing of it. B starts at 0, and with it
the change. Left out: adapters on the embedding and the head, dropout in front of A, and biases.
Source: Hu et al. (2021), section 4.1, eq. 3 (they draw A from a normal distribution, their code
and peft from the uniform one used here); Kalajdzievski (2023) for α/√r.
"""

import math

import numpy as np

from llm.functions import chunked, lowrank
from llm.grad.tensor import Tensor, primitive
from llm.layers.module import Linear, Module, parameter

frozen_linear = primitive(lowrank.frozen_linear, lowrank.frozen_linear_vjp)
lora = primitive(lowrank.lora, lowrank.lora_vjp)
head_loss = primitive(chunked.head_loss, chunked.head_loss_vjp)


class FrozenLinear(Module):
    """x (..., Cin) -> x W + b (..., Cout), never trained; its backward computes dx alone."""

    def __init__(self, w, b=None):
        self.w, self.b = Tensor(w), None if b is None else Tensor(b)
        self.cin, self.cout = self.w.shape

    def weight(self):
        """W (Cin, Cout), an array."""
        return self.w.data

    def __call__(self, x):
        return frozen_linear(x, self.weight, self.b)


class LoRALinear(Module):
    """x (..., Cin) -> base(x) + s·(x A) B, s = alpha / rank, or alpha / √rank with `rslora`.

    base: what is frozen, with `weight()` -> (Cin, Cout), `b`, `cin` and `cout`. A (Cin, P·r) is
    uniform within ±1/√Cin, B (r, Cout) is 0. widths: the outputs of each of the P matrices that
    stand side by side in W; (Cout,) if it is one. r·(P·Cin + Cout) numbers are trained.
    Raises ValueError where rank < 1, alpha is no positive number or the widths do not add up.
    """

    def __init__(self, base, rank, alpha, rng, widths=None, rslora=False):
        widths = tuple(widths or (base.cout,))
        if rank < 1 or not 0 < alpha < math.inf:
            raise ValueError(f"rank {rank} must be at least 1, and alpha {alpha} a positive number")
        if sum(widths) != base.cout or min(widths) < 1:
            raise ValueError(f"parts of {widths} outputs do not add up to {base.cout}")
        self.base, self.rank, self.alpha = base, rank, alpha
        self.widths, self.rslora = widths, rslora
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)
        dtype = base.w.dtype if hasattr(base, "w") else np.float32
        bound, shape = 1 / math.sqrt(base.cin), (base.cin, len(widths) * rank)
        self.a = parameter(rng.uniform(-bound, bound, shape).astype(dtype))
        self.b = parameter(np.zeros((rank, base.cout), dtype))

    def __call__(self, x):
        return lora(x, self.a, self.b, self.base.weight, self.base.b, scale=self.scale,
                    widths=self.widths)

    def change(self):
        """s·A·B (Cin, Cout): what the adapter adds to W, an array."""
        a, b = self.a.data, self.b.data
        return np.concatenate([self.scale * (a[:, part] @ b[:, low:high]) for low, high, part
                               in lowrank.parts(self.widths, self.rank)], axis=1)

    def merged(self):
        """One frozen layer that does the same: W + s·A·B, a new array."""
        bias = self.base.b
        return FrozenLinear(self.base.weight() + self.change(), None if bias is None else bias.data)


def freeze(model):
    """Nothing of the model is trained from now on; the arrays stay the same ones.

    Every Linear becomes a FrozenLinear, so that no gradient is computed for its weights.
    """
    for path, layer in list(model.named(Linear)):
        model.replace(path, FrozenLinear(layer.w.data, layer.b and layer.b.data))
    for _, tensor in model.named(Tensor):
        tensor.requires_grad, tensor.grad = False, None


def add_lora(model, rank, alpha, rng, targets=None, rslora=False):
    """Freeze `model` and put adapters beside its linear layers -> {path: LoRALinear}.

    targets: the last part of a layer's path, or all of it; None: all layers but a head of its own,
    as in peft's "all-linear". A `qkv` holds three matrices and gets three adapters, as in models
    that keep them apart. Layers in 4 bits (qlora.py) are frozen already, and get theirs in the same
    way. rng draws A. Raises ValueError, before anything changes, if the model has adapters already
    or a target names no layer of it.
    """
    if dict(model.named(LoRALinear)):
        raise ValueError("the model has adapters already: merge them first")
    layers = [path for path, layer in model.named(Module)
              if isinstance(layer, Linear) or hasattr(layer, "weight")]
    targets = [path for path in layers if path != "head"] if targets is None else targets
    for target in targets:
        if not any(target in (path, path.rpartition(".")[2]) for path in layers):
            raise ValueError(f"no linear layer is called {target!r}; there are "
                             f"{sorted({path.rpartition('.')[2] for path in layers})}")
    freeze(model)
    found = {}
    for path in layers:
        parent, _, last = path.rpartition(".")
        if last in targets or path in targets:
            base = model.get(path)
            widths = widths_of(model.get(parent) if parent else model, last, base)
            found[path] = LoRALinear(base, rank, alpha, rng, widths, rslora)
            model.replace(path, found[path])
    return found


def widths_of(parent, name, base):
    """(queries, keys, values) of an attention's `qkv`; one width for any other layer."""
    if name != "qkv":
        return (base.cout,)
    H, K = parent.H, getattr(parent, "K", parent.H)
    D = base.cout // (H + 2 * K)
    return (H * D, K * D, K * D)


def merge(model):
    """Replace every adapter by one matrix, W + s·A·B -> {path: LoRALinear} for `unmerge`.

    Costs 2·r·Cin·Cout FLOPs a layer, once; afterwards a token costs what it did before LoRA.
    """
    kept = dict(model.named(LoRALinear))
    for path, layer in kept.items():
        model.replace(path, layer.merged())
    return kept


def unmerge(model, kept):
    """Put the adapters back. Nothing is subtracted, so the base is the same to the bit."""
    for path, layer in kept.items():
        model.replace(path, layer)


def loss_of(model, ids, targets, chunk=None, gradient=True):
    """model.loss(ids, targets) of a frozen model, without an array of all logits (chunked.py)."""
    own = getattr(model, "head", None)
    table = model.embed.table if own is None else Tensor(own.weight().T)
    return head_loss(model.hidden(ids), table, np.asarray(targets), chunk=chunk, gradient=gradient)
