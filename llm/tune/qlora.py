"""Day 54 · QLoRA: the same adapters, beside a base that is kept in 4 bits.

A matrix is made from its 4 bits when a product needs it, once forward and once backward, and is
forgotten again. So memory holds one matrix in float32 at a time. The gradient passes through the
matrix as it is read, W̃; nothing ever changes a code.

`open_quantised` reads a model from its file matrix by matrix, so that its float32 weights never
stand in memory together; `open_frozen` does the same and keeps them in float32. The embedding,
which is also the head, stays float32, as do the norms.
Left out: an optimizer whose state moves to disk ("paged"), and computing in 16 bits.
Source: Dettmers et al. (2023), section 3, eq. 5 and 6.
"""

import dataclasses

import numpy as np

from llm.grad.tensor import Tensor
from llm.layers.module import Module
from llm.models.llama import Llama, LlamaConfig, inference_name, make_block
from llm.tune.lora import FrozenLinear, freeze, frozen_linear
from llm.tune.nf4 import NF4, quantise
from llm.tune.pretrained import Zeros
from llm.weights.blocks import dequantise
from llm.weights.cursor import GGUFError
from llm.weights.llama import block_rows, describe, names


class NF4Linear(Module):
    """A frozen linear layer in 4.127 bits a weight. Its arrays are part of the model's state."""

    def __init__(self, w, b=None):
        q = quantise(w)
        self.codes, self.scales, self.groups, self.mean = q.codes, q.scales, q.groups, q.mean
        self.cin, self.cout = q.shape
        self.b = None if b is None else Tensor(b)

    def weight(self):
        """W̃ (Cin, Cout), float32, made anew at each call."""
        return NF4(self.codes, self.scales, self.groups, self.mean, (self.cin, self.cout)).dense()

    def __call__(self, x):
        return frozen_linear(x, self.weight, self.b)


def quantise_base(model):
    """Freeze the model and turn its linear layers into 4 bits, all but a head of its own.

    Returns {path: NF4Linear}. Layers whose size is no multiple of 64 raise ValueError.
    """
    freeze(model)
    found = {}
    for path, layer in list(model.named(FrozenLinear)):
        if path == "head":                     # as wide as the embedding, and kept like it
            continue
        found[path] = NF4Linear(layer.weight(), layer.b and layer.b.data)
        model.replace(path, found[path])
    return found


def base_bytes(model):
    """Bytes of all that is frozen: 4-bit layers, float32 layers, embedding, norms."""
    trained = {id(p.data) for p in model.named_parameters().values()}
    return sum(a.nbytes for a in model.state_dict().values() if id(a) not in trained)


def open_quantised(pretrained):
    """A frozen Llama in 4 bits from an open file; see `open_frozen`."""
    return open_frozen(pretrained, NF4Linear)


def open_frozen(pretrained, layer=FrozenLinear):
    """A Llama from an open file (day 52's `load`), read one matrix at a time, nothing trainable.

    pretrained: needs .file and .arch. layer: a function W (Cin, Cout) -> the module that holds it.
    Raises GGUFError for a missing, odd or damaged array.
    """
    a, about = pretrained.arch, describe(pretrained.file)
    sources = names(pretrained.file, a.L)
    if a.D * a.H != a.C or any(name.endswith(".b") for name in sources):
        raise GGUFError(f"{pretrained.file.path} has biases or heads that are not C / H wide; "
                        "day 49's Llama has neither")
    config = LlamaConfig(a.V, a.T, a.C, a.L, a.H, a.K, a.F, a.eps, a.rotary, "head" not in sources)

    def read(name):
        return one_array(pretrained.file, about, name, sources[name])

    def block(config, rng, rule):
        made, i = make_block(config, rng, rule), len(blocks)
        fill(made, layer, lambda name: read(inference_name(f"blocks.{i}.{name}")))
        blocks.append(made)
        return made

    blocks = []
    model = Llama(dataclasses.replace(config, V=1), Zeros(), block)        # one row of zeros
    model.config = config
    model.embed.table = Tensor(read("embed"))
    model.norm.gain = Tensor(read("norm.gain"))
    if not config.tied:
        model.head = FrozenLinear(read("head"))
    freeze(model)
    return model


def fill(block, layer, read):
    """Put what read(name) gives into a block: gains as they are, matrices as layer(W)."""
    for name, tensor in list(block.named(Tensor)):
        array, (path, _, end) = read(name), name.rpartition(".")
        if array.shape != tensor.shape:
            raise GGUFError(f"{name} of a block is {array.shape} in the file, wanted "
                            f"{tensor.shape}")
        if end == "w":
            block.replace(path, layer(array))
        else:
            tensor.data = array


def one_array(file, about, name, sources):
    """One of our arrays in float32, contiguous."""
    array = np.concatenate([dequantise(rows, kind)
                            for kind, rows in block_rows(file, about, sources)])
    if not np.isfinite(array).all():
        raise GGUFError(f"{file.path}: {name} holds weights that are not finite numbers; "
                        "the file is damaged, fetch it again")
    if name == "embed":
        return array
    return np.ascontiguousarray(array.T) if array.shape[1] > 1 and not name.endswith(
        "gain") else array.reshape(-1)
