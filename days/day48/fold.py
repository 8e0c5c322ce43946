"""Day 48 · What the mean subtraction does in a trained GPT: measure it, leave it out, fold it away.

LayerNorm never lets the part of the stream along 1 = (1, …, 1) through. So that part may as well be
taken out where it is written: out of the embedding and of the matrices that add to the stream. What
is left has mean 0 everywhere, and RMSNorm does there what LayerNorm did.
"""

from copy import deepcopy

import numpy as np

from llm.data.batches import sliding_windows
from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad
from llm.layers.gated import RMSNorm
from llm.layers.module import Module
from llm.models.gpt import head


class Shifted(Module):
    """A LayerNorm's gain and bias around an RMSNorm: all of it but the mean subtraction."""

    def __init__(self, old):
        self.inner, self.bias = RMSNorm(len(old.gain.data), old.eps), old.bias
        self.inner.gain = old.gain

    def __call__(self, x):
        return self.inner(x) + self.bias


class Folded(Module):
    """A GPT with RMSNorm only, which computes what `model` with its LayerNorms does.

    The means leave the embedding's rows, `project` and `down`. The norms' biases move into the
    matrices behind them: (n + b)W + c = nW + (bW + c). The head reads the table as it was, so it
    has its own here, and what the last bias adds to each logit. The model given is left alone.
    """

    def __init__(self, model):
        model = copy(model)
        self.embed, self.blocks = model.embed, model.blocks
        self.table = Tensor(model.embed.table.data.copy())
        self.shift = Tensor(model.norm.bias.data @ self.table.data.T)
        centre(self.embed.table)
        for block in self.blocks:
            centre(block.mix.inner.project.w, block.mix.inner.project.b,
                   block.think.inner.down.w, block.think.inner.down.b)
            for part, reader in ((block.mix, block.mix.inner.qkv),
                                 (block.think, block.think.inner.up)):
                reader.b.data = reader.b.data + part.norm.bias.data @ reader.w.data
                part.norm = Shifted(part.norm).inner
        self.norm = Shifted(model.norm).inner

    def __call__(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return head(self.norm(x), self.table) + self.shift

    def loss(self, ids, targets):
        return ops.cross_entropy(self(ids), targets)


def centre(*tensors):
    """Take the mean out of every row that is written to the stream."""
    for tensor in tensors:
        tensor.data = tensor.data - tensor.data.mean(axis=-1, keepdims=True)


def copy(model):
    """The same model with arrays of its own. Raises ValueError where positions are learned: their
    rows are written to the stream, too, and nothing here centres them."""
    if model.positions:
        raise ValueError("only a GPT with rotary positions can be folded here: centre the rows of "
                         "its position table as well")
    return deepcopy(model)


def norms(model):
    """The paths of all norms, in the order a token meets them."""
    return [*(f"blocks.{i}.{part}.norm" for i in range(model.config.L) for part in
              ("mix", "think")), "norm"]


def without_means(model):
    """The same GPT, where no norm subtracts a mean; nothing else is changed."""
    new = copy(model)
    for path in norms(new):
        new.replace(path, Shifted(new.get(path)))
    return new


class Watched(Module):
    """A norm that notes, for each token, x's squared length along 1, and all of it."""

    def __init__(self, inner, notes):
        self.inner, self.notes = inner, notes

    def __call__(self, x):
        rows = x.data.reshape(-1, x.shape[-1]).astype(np.float64)
        self.notes.append((rows.shape[-1] * rows.mean(-1) ** 2, (rows * rows).sum(-1)))
        return self.inner(x)


def lengths(model, ids, T):
    """[(squared length along 1, squared length)] at each norm, arrays over the tokens of ids."""
    watched, notes = copy(model), []
    for path in norms(watched):
        watched.replace(path, Watched(watched.get(path), notes))
    with no_grad():
        watched(next(sliding_windows(ids, 16, T, T))[0])
    return notes


def shares(model, ids, T):
    """[mean share of the squared length along 1] at each norm."""
    return [float((along / whole).mean()) for along, whole in lengths(model, ids, T)]


def nats(model, ids, T):
    """Mean nats per token of ids, in windows of T."""
    total = count = 0
    with no_grad():
        for inputs, targets in sliding_windows(ids, 16, T, T):
            kept = int((targets != -100).sum())
            total, count = total + float(model.loss(inputs, targets).data) * kept, count + kept
    return total / count


def apart(model, other, ids, T):
    """The largest difference of two models' logits, over the spread of the first's."""
    inputs, _ = next(sliding_windows(ids, 16, T, T))
    with no_grad():
        a, b = model(inputs).data, other(inputs).data
    return float(np.abs(a - b).max() / a.std())


def gradient_along_one(model, inputs, targets):
    """The gradient that reaches the stream at the first block: its share along 1.

    A gradient passes a norm or flows past it; it reaches the stream only through norms.
    """
    x = Tensor(model.embed(inputs).data, requires_grad=True)
    y = x
    for block in model.blocks:
        y = block(y)
    ops.cross_entropy(head(model.norm(y), model.embed.table), targets).backward()
    g = x.grad.astype(np.float64)
    return float((g.mean(-1) ** 2).sum() / (g * g).mean(-1).sum())


