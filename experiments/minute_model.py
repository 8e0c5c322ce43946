"""Day 38 · Day 34's GPT with what the recipes add to it: earlier tokens, a memory, a prior.

Left out: generating text. The parts are plain additions, so without them it is day 34's GPT.
"""

from functools import partial

import numpy as np

from llm.grad import ops
from llm.grad.tensor import primitive
from llm.layers.module import Embedding, Linear, Module
from llm.models.gpt import GPT, GPTConfig, make_block


def with_prior(logits, gate, log_p):
    """logits (…, V) + gate (…, 1) · log_p (…, V): counting's opinion, as loud as the gate says."""
    out = gate * log_p
    out += logits
    return out, (log_p,)


def with_prior_vjp(dout, log_p):
    """The prior is no parameter; the gate collects Σ over the vocabulary."""
    return dout, np.einsum("...v,...v->...", dout, log_p)[..., None], None


add_prior = primitive(with_prior, with_prior_vjp)


class MinuteGPT(Module):
    """ids (B, T) and what the recipe adds -> logits (B, T, V)."""

    def __init__(self, recipe, V, rng):
        r, C = recipe, recipe.C
        self.gpt = GPT(GPTConfig(V=V, T=r.T, C=C, L=r.L, H=r.H, rotary=True, dropout=r.dropout),
                       rng, partial(make_block, std=r.std))
        self.earlier = [Embedding(V, C, rng, std=0.02) for _ in range(r.earlier)]
        self.depth = self.gate = None
        if r.counts:
            self.depth = Embedding(r.counts + 1, C, rng, std=0.02)
            self.gate = Linear(C, 1, rng, std=0.0)
            self.gate.b.data[:] = 1                     # the start is counting alone, nearly

    def __call__(self, ids, before=(), rows=None, prior=None, deep=True, rng=None):
        """before: (B, T) of the tokens one, two, … earlier. rows: Tensor (B, T, C) of the memory.
        prior: (ln P (B, T, V), depth (B, T)) of the counts. deep: False leaves the blocks out.
        rng: for dropout, in training."""
        x = self.gpt.embed(ids)                                            # (B, T, C)
        for table, tokens in zip(self.earlier, before):
            x = x + table(tokens)
        if prior is not None:
            x = x + self.depth(prior[1])
        x = self.gpt.dropout(x, rng)
        for block in self.gpt.blocks if deep else ():
            x = block(x, rng)
        x = self.gpt.norm(x if rows is None else x + rows)
        logits = self.gpt.logits(x)
        return logits if prior is None else add_prior(logits, self.gate(x), prior[0])

    def loss(self, ids, targets, **extra):
        """Mean cross-entropy in nats over the targets that are not −100."""
        return ops.cross_entropy(self(ids, **extra), targets)
