"""Day 56 · A reward model: a GPT that ends in one number, trained to order pairs of answers.

The number is read at the answer's last token, the only one that has seen all of it. Pairs tell
nothing about a constant that is added to all answers of a prompt, so the head has no bias; after
training `centre` makes the mean over given answers 0. Left out: ensembles, and a reward for each
token.
"""

import math

import numpy as np

from llm.align.pairs import pad_rows
from llm.functions import margins
from llm.grad.tensor import no_grad, primitive
from llm.layers.module import Linear, Module

bradley_terry = primitive(margins.bradley_terry, margins.bradley_terry_vjp)


class RewardModel(Module):
    """ids (N, T), last (N,) -> rewards (N,); a body with `hidden` and a head (C → 1).

    body: a GPT or Llama. It is not copied, and its parameters are trained. The head starts at 0
    or so (std 1/C), so that rewards start small whatever the body says.
    """

    def __init__(self, body, rng):
        C = body.config.C
        self.body = body
        self.head = Linear(C, 1, rng, bias=False, std=1 / C)
        self.shift = np.zeros(1, np.float32)       # added to each reward; saved, not trained

    def __call__(self, ids, last):
        """last: where each row's last answer token stands. Raises ValueError for other shapes."""
        last = np.asarray(last)
        if ids.ndim != 2 or last.shape != ids.shape[:1]:
            raise ValueError(f"ids {ids.shape} and last {last.shape} must be (N, T) and (N,)")
        hidden = self.body.hidden(ids)                                       # (N, T, C)
        read = hidden[np.arange(len(ids)), last]                             # (N, C)
        return self.head(read).reshape(len(ids)) + self.shift

    def margin(self, batch):
        """PairBatch of B pairs -> (B,): r(chosen) − r(rejected), a constant cancels."""
        rewards = self(batch.ids, batch.last)
        return rewards[:batch.size] - rewards[batch.size:]

    def loss(self, batch):
        """For `fit`: the mean loss of a PairBatch in nats, and the number of its pairs."""
        return bradley_terry(self.margin(batch)), batch.size

    def score(self, rows, N=64):
        """[Encoded] -> rewards (len(rows),), N rows at a time, the short ones first."""
        found = np.zeros(len(rows), np.float32)
        order = np.argsort([len(row.ids) for row in rows], kind="stable")
        with no_grad():
            for part in np.array_split(order, math.ceil(len(rows) / N)) if len(rows) else ():
                ids, _ = pad_rows([rows[i] for i in part])
                found[part] = self(ids, [len(rows[i].ids) - 1 for i in part]).data
        return found

    def centre(self, rows):
        """Choose the shift that makes the mean reward of these answers ([Encoded]) 0."""
        self.shift -= self.score(rows).mean(dtype=np.float64)
