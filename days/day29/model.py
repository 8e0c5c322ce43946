"""Day 29 · A small attention language model, and its training, for the runs of days 29 to 31."""

import numpy as np

from llm.functions.heads import NO_RULE
from llm.functions.probability import log_softmax
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.layers.attention import MultiHeadAttention
from llm.layers.module import Embedding, Linear, Module
from llm.layers.norm import LayerNorm
from llm.train.adam import AdamW
from llm.train.schedule import WarmupCosine


class Places(Module):
    """x (B, T, C) -> x + a trained vector for each place 0 … T − 1; day 30 looks at others."""

    def __init__(self, T, channels, rng):
        self.table = Embedding(T, channels, rng, std=0.02)

    def __call__(self, x):
        return x + self.table(np.arange(x.shape[1]))


class AttentionLM(Module):
    """ids (B, T) -> logits (B, T, V): embed, place, L times x + attention(norm(x)), norm, project.

    positions: a module x -> x that adds positions, or None; rule: a `PositionRule`.
    """

    def __init__(self, V, C, H, L, rng, positions=None, rule=NO_RULE):
        self.embed = Embedding(V, C, rng, std=0.02)
        self.positions = positions
        self.norms = [LayerNorm(C) for _ in range(L)]
        self.layers = [MultiHeadAttention(C, H, rng, rule) for _ in range(L)]
        self.norm, self.head = LayerNorm(C), Linear(C, V, rng)

    def __call__(self, ids):
        x = self.embed(ids)
        if self.positions is not None:
            x = self.positions(x)
        for norm, layer in zip(self.norms, self.layers):
            x = x + layer(norm(x))
        return self.head(self.norm(x))


def windows(ids, B, T, rng):
    """Inputs and targets, each (B, T), from random places of a text."""
    rows = ids[rng.integers(0, len(ids) - T, B)[:, None] + np.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


def train(model, ids, steps, B, T, rng, advance, rate=3e-3):
    """AdamW on random windows, the rate warmed up and then lowered to 0."""
    optimizer, schedule = AdamW(model.named_parameters()), WarmupCosine(rate, steps // 10)
    for step in range(1, steps + 1):
        inputs, targets = windows(ids, B, T, rng)
        loss = ops.cross_entropy(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        optimizer.step(schedule(step, steps))
        advance(1, f"loss {float(loss.data):.2f}")
    return model


def loss_by_place(model, ids, T, n, seed=1):
    """Mean nats (T,) of the token after places 0 … T − 1, over n windows of unseen text."""
    rng, total = np.random.default_rng(seed), np.zeros(T)
    for _ in range(0, n, 32):
        inputs, targets = windows(ids, 32, T, rng)
        with no_grad():
            logp = log_softmax(model(inputs).data)
        total -= np.take_along_axis(logp, targets[..., None], -1)[..., 0].sum(axis=0)
    return total / (-(-n // 32) * 32)
