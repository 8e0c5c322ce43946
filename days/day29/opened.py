"""Day 29 · A trained layer opened between its heads and their projection: look, remove, freeze."""

import numpy as np

from llm.functions.heads import merge_heads, multi_head, split_heads
from llm.functions.probability import log_softmax
from llm.grad.tensor import Tensor, no_grad


class Opened:
    """The one layer of an `AttentionLM` on texts: inputs and targets (N, T).

    weights (N, H, T, T): where each head looks; out (N, H, T, D): what it answers there.
    """

    def __init__(self, model, inputs, targets):
        self.model, self.targets, layer = model, targets, model.layers[0]
        with no_grad():
            self.stream = model.positions(model.embed(inputs))                     # (N, T, C)
            qkv = layer.qkv(model.norms[0](self.stream)).data
        out, (_, _, self.v, self.weights, H, _) = multi_head(qkv, layer.H, layer.rule)
        self.out, self.own = split_heads(out, H), None
        self.own = self.nats(self.out)

    def nats(self, out):
        """Mean nats of the targets if the heads had answered `out` (N, H, T, D)."""
        model = self.model
        with no_grad():
            x = self.stream + model.layers[0].project(Tensor(merge_heads(out)))
            logp = log_softmax(model.head(model.norm(x)).data)
        return -float(np.take_along_axis(logp, self.targets[..., None], -1).mean())

    def changed(self, heads, answer):
        """By how many nats the loss rises when these heads give `answer` in place of their own."""
        out = self.out.copy()
        out[:, heads] = answer
        return self.nats(out) - self.own

    def removed(self, heads):
        """These heads say 0: their terms of the sum over heads are missing."""
        return self.changed(heads, 0)

    def averaged(self, heads):
        """These heads say always the same: their mean answer over all texts and places."""
        return self.changed(heads, self.out[:, heads].mean(axis=(0, 2), keepdims=True))

    def frozen(self, heads, pattern):
        """These heads look where `pattern` (H, T, T) says, whatever the text."""
        return self.changed(heads, pattern[heads] @ self.v[:, heads])


def habits(w, space):
    """Of weights (N, T, T): share on the token itself, on the one before, mean distance, share on
    spaces; all over queries that have a whole half window behind them. space: booleans (N, T).
    """
    T = w.shape[-1]
    rows, far = w[:, T // 2:], np.arange(T)[T // 2:, None] - np.arange(T)
    values = (rows * (far == 0), rows * (far == 1), rows * far, rows * space[:, None, :])
    return [float(x.sum(-1).mean()) for x in values]


def looks_back(w, inputs, token):
    """Mean share (N, T, T) on the one before, over queries that are `token`, inputs (N, T)."""
    before = np.diagonal(w, -1, 1, 2)                                              # (N, T − 1)
    return float(before[inputs[:, 1:] == token].mean())
