"""Day 22 · A recurrent language model: embedding, recurrent layers, head.

The states go in and come out as plain arrays. Carried from window to window they hold the whole
text so far, while no gradient flows through an array. Left out: training (train/recurrent.py),
dropout, and a head that shares the embedding's table.
"""

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate.sample import sample
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.layers.module import Embedding, Linear, Module
from llm.layers.recurrent import GRU


class RecurrentLM(Module):
    """ids (B, T) -> logits (B, T, V) of the token after each, and the states at the end.

    layer(cin, channels, rng) makes one recurrent layer. V·C + L·(6C² + 4C) + C·V + V parameters
    with GRUs of C channels. The head starts small, so that the untrained model is nearly uniform.
    """

    def __init__(self, vocab_size, channels, layers, rng, layer=GRU):
        if min(vocab_size, channels, layers) < 1:
            raise ValueError(f"sizes must be 1 or more, not V {vocab_size}, C {channels}, "
                             f"L {layers}")
        self.channels = channels
        self.embed = Embedding(vocab_size, channels, rng)
        self.layers = [layer(channels, channels, rng) for _ in range(layers)]
        self.head = Linear(channels, vocab_size, rng, std=0.1 * channels**-0.5)

    def start(self, batch):
        """The states before any text: L arrays of zeros (B, C)."""
        dtype = self.head.w.dtype
        return [np.zeros((batch, self.channels), dtype) for _ in self.layers]

    def __call__(self, ids, states=None):
        """states: those that an earlier call returned, or None before any text.

        Raises ValueError for ids that are not (B, T ≥ 1), and for too many or too few states.
        """
        if np.ndim(ids) != 2 or np.shape(ids)[1] < 1:
            raise ValueError(f"ids {np.shape(ids)} must be (B, T) with at least one token each; "
                             "one text is ids[None]")
        states = self.start(len(ids)) if states is None else states
        if len(states) != len(self.layers):
            raise ValueError(f"{len(states)} states for {len(self.layers)} layers")
        x, after = self.embed(ids), []
        for layer, h in zip(self.layers, states):
            x = layer(x, h)                                      # (B, T, C)
            after.append(x.data[:, -1].copy())
        return self.head(x), after

    def loss(self, ids, targets, states=None):
        """The mean nats a token of (B, T) targets, teacher forced, and the states at the end."""
        logits, after = self(ids, states)
        return ops.cross_entropy(logits, targets), after

    def generate(self, ids, n, rng, temperature=1.0, states=None):
        """Draw n tokens after each of B prompts (B, T ≥ 1) -> (B, n) int32: O(1) memory a token.

        Raises ValueError unless temperature > 0.
        """
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        drawn, ids = np.empty((len(ids), n), np.int32), np.asarray(ids)
        with no_grad():
            for i in range(n):
                logits, states = self(ids, states)
                drawn[:, i] = sample(logits.data[:, -1], rng, temperature)
                ids = drawn[:, i:i + 1]
        return drawn


def log_probabilities(model, ids, length=256):
    """ln P of ids[1:], given all before it: (N,) -> (N − 1,) float64; the state is carried."""
    states, parts = None, []
    with no_grad():
        for at in range(0, len(ids) - 1, length):
            targets = ids[at + 1:at + 1 + length]
            logits, states = model(ids[None, at:at + len(targets)], states)
            logp = log_softmax(logits.data[0])                   # (T, V)
            parts.append(logp[np.arange(len(targets)), targets].astype(np.float64))
    return np.concatenate(parts) if parts else np.zeros(0)
