"""Day 55 · Prefix tuning and prompt tuning: train what a frozen model reads before the text.

    keys_and_values(model, vectors)     # of each layer, for P vectors (P, C) at positions 0 … P − 1
    add_prefix(model, vectors)          # trains P keys and P values in every layer
    add_prompt(model, vectors)          # trains the P vectors themselves
    vectors = rows(model, ids)          # start as the model that has read these P tokens

Both come in through Module.replace. The rows stand at the positions 0 … P − 1 and the text after
them, and take P tokens of its window. At the start the output is that of the model which has read
the P tokens before the text; there is no start that is the bare model. Left out: the network by
which Li and Liang make their prefix while it is trained.
Sources: Li & Liang (2021), section 4.2; Lester et al. (2021), section 2.
"""

import numpy as np

from llm.functions import join as pairs
from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad, primitive
from llm.layers.attention import multi_head
from llm.layers.grouped import spread
from llm.layers.module import Module, parameter
from llm.tune.lora import freeze

join = primitive(pairs.join, pairs.join_vjp)
leave = primitive(pairs.leave, pairs.leave_vjp)


class PrefixAttention(Module):
    """Day 29's or 49's attention, x (B, T, C) -> (B, T, C), over P trained keys and values too.

    rows (P, 2·K·D): keys, then values, before the position rule turns the keys. A row has a query
    of 0, whose answer nobody reads. 4·P·C FLOPs a token, and the P rows themselves.
    """

    def __init__(self, attention, rows):
        self.H, self.rule = attention.H, attention.rule
        self.K = getattr(attention, "K", attention.H)
        self.qkv, self.project = attention.qkv, attention.project
        self.rows = parameter(rows)

    def __call__(self, x):
        qkv = join(self.rows, self.qkv(x))                       # (B, P + T, (H + 2K)·D)
        if self.H != self.K:
            qkv = spread(qkv, H=self.H, K=self.K)                # (B, P + T, 3C)
        out = multi_head(qkv, H=self.H, rule=self.rule)
        return self.project(leave(out, P=self.rows.shape[0]))    # (B, T, C)


class PromptEmbedding(Module):
    """ids (B, T) -> (B, P + T, C): P trained vectors, then the embeddings of the ids."""

    def __init__(self, embed, vectors):
        self.table, self.prompt = embed.table, parameter(vectors)

    def __call__(self, ids):
        return join(self.prompt, ops.embedding(self.table, ids))


class AfterPrompt(Module):
    """The last norm, of the text's rows alone: x (B, P + T, C) -> (B, T, C)."""

    def __init__(self, norm, P):
        self.norm, self.P = norm, P

    def __call__(self, x):
        return self.norm(leave(x, P=self.P))


def rows(model, ids):
    """The embeddings of P token ids, a copy (P, C): where a prompt or prefix may start."""
    return model.embed.table.data[np.asarray(ids)]


def keys_and_values(model, vectors):
    """What each layer keeps of P input vectors (P, C): [(P, 2·K·D), …], keys not yet turned.

    The vectors stand first, so by the causal mask nothing of a text that follows is in them.
    """
    found = []
    with no_grad():
        x = Tensor(vectors[None])
        if getattr(model, "positions", None) is not None:
            x = model.positions(x)
        for block in model.blocks:
            qkv = block.mix.inner.qkv(block.mix.norm(x)).data[0]             # (P, (H + 2K)·D)
            found.append(qkv[:, model.config.C:].copy())
            x = block(x)
    return found


def add_prefix(model, vectors):
    """Freeze `model` and give each layer P trained keys and values -> {path: PrefixAttention}.

    vectors (P, C): the prefix starts as what the layers make of them. L·P·2·K·D numbers are
    trained. Raises ValueError, before anything changes, where the vectors do not fit, the model
    has a prefix or a prompt already, or it has learned positions: those it adds to the text from 0
    on, whatever stands before, so the text would stand on the prefix's own positions.
    """
    check(model, vectors)
    if getattr(model, "positions", None) is not None:
        raise ValueError("a model with learned positions has none for a prefix: use add_prompt, "
                         "or a rotary model")
    starts = keys_and_values(model, vectors)
    freeze(model)
    found = {}
    for i, start in enumerate(starts):
        path = f"blocks.{i}.mix.inner"
        found[path] = PrefixAttention(model.get(path), start)
        model.replace(path, found[path])
    return found


def add_prompt(model, vectors):
    """Freeze `model` and train P vectors (P, C) before its input -> PromptEmbedding.

    P·C numbers. Raises ValueError, before anything changes, where the vectors do not fit or the
    model has a prefix or a prompt already.
    """
    check(model, vectors)
    freeze(model)
    embed = PromptEmbedding(model.embed, np.array(vectors))
    model.replace("embed", embed)
    model.replace("norm", AfterPrompt(model.norm, len(vectors)))
    return embed


def check(model, vectors):
    """ValueError unless vectors (P, C) leave the model's window room, and nothing stands first."""
    C, T = model.config.C, model.config.T
    if vectors.ndim != 2 or vectors.shape[1] != C or not 1 <= len(vectors) < T:
        raise ValueError(f"vectors {vectors.shape}: wanted (P, {C}) with 1 ≤ P < {T}, the window")
    if list(model.named(PrefixAttention)) or list(model.named(PromptEmbedding)):
        raise ValueError("the model has a prefix or a prompt already: start from share(base)")
