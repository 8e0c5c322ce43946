"""Day 58 · Training on fixed pairs of answers: their log-probabilities, the reference's only once.

The reference never changes and the pairs never change, so what it says about them is computed once
and kept with them, two numbers a pair. No step runs a second model. Left out: pairs sampled while
the policy trains, and packing several pairs into one row.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from llm.align.dpo import dpo, dpo_vjp, ipo, ipo_vjp, orpo, orpo_vjp
from llm.align.pairs import collate
from llm.functions.logps import IGNORE, token_logps, token_logps_vjp
from llm.grad.tensor import no_grad, primitive
from llm.tune.packing import pick

logps = primitive(token_logps, token_logps_vjp)
LOSSES = {"dpo": primitive(dpo, dpo_vjp), "ipo": primitive(ipo, ipo_vjp),
          "orpo": primitive(orpo, orpo_vjp)}


@dataclass(frozen=True)
class Preferences:
    """N pairs as arrays. Row i is the chosen answer of pair i, row N + i the rejected one."""

    ids: np.ndarray                        # (2N, T): prompt and answer, padded on the right with 0
    targets: np.ndarray                    # (2N, T): the token that follows; −100 outside answers
    reference: np.ndarray | None = None    # (2N,): ln π_ref of each answer, once it is known

    def __len__(self):
        return len(self.ids) // 2

    def take(self, pairs):
        """The pairs of these numbers (M,), cut to the longest of their rows."""
        rows = np.concatenate([pairs, np.add(pairs, len(self))])
        T = int(np.flatnonzero((self.targets[rows] != IGNORE).any(axis=0))[-1]) + 1
        kept = None if self.reference is None else self.reference[rows]
        return Preferences(self.ids[rows, :T], self.targets[rows, :T], kept)


def preferences(pairs, window):
    """[(chosen, rejected), …] of day 56's Encoded -> Preferences.

    window: the longest context that the model reads; it scores window + 1 tokens, the first of
    which follows nothing. An answer without a word still has its end token. Equal answers are
    allowed: they teach DPO and IPO nothing. Raises ValueError, with the pair's number, where a row
    is too long, an answer has no prompt, or two prompts differ; and where there are no pairs.
    """
    if not len(pairs):
        raise ValueError("no pairs to learn from: give at least one")
    for i, pair in enumerate(pairs):
        for row, side in zip(pair, ("chosen", "rejected"), strict=True):
            if len(row.ids) > window + 1:
                raise ValueError(f"pair {i}: the {side} answer and its prompt take {len(row.ids)} "
                                 f"tokens, and a window of {window} scores at most {window + 1}: "
                                 "leave the pair out, or shorten it")
            if row.mask[0]:
                raise ValueError(f"pair {i}: the {side} answer has no prompt, so its first token "
                                 "follows nothing and has no probability")
    batch = collate(pairs)                                                   # (2N, T + 1)
    targets = np.where(batch.mask[:, 1:], batch.ids[:, 1:], IGNORE)
    return Preferences(batch.ids[:, :-1], targets)


def answer_logps(model, ids, targets):
    """ln π(answer | prompt) in nats of each row, summed over its tokens: (N, T) -> Tensor (N,).

    model: has day 34's `hidden` and `logits`. Logits are made at the M positions that count only,
    2·V·C FLOPs and 4V bytes each; then one product with a matrix (N, M) of 0 and 1 sums the rows.
    """
    rows, columns = np.nonzero(targets != IGNORE)                            # (M,)
    hidden = pick(model.hidden(ids), rows * ids.shape[1] + columns)          # (M, C)
    found = logps(model.logits(hidden), targets[rows, columns])              # (M,)
    mine = rows == np.arange(len(ids))[:, None]                              # (N, M)
    return (mine.astype(found.dtype) @ found.reshape(-1, 1)).reshape(len(ids))


def with_reference(reference, pairs, V, rows=64):
    """The same pairs, with ln π_ref of all answers: no step of the training runs `reference`.

    V: the policy's vocabulary. rows: how many are run at a time. Costs one forward over the pairs
    and keeps 8 bytes for each. Raises ValueError where the reference has another vocabulary.
    """
    if reference.config.V != V:
        raise ValueError(f"the reference has {reference.config.V} tokens and the policy {V}: "
                         "log-probabilities over different alphabets cannot be compared; start "
                         "the policy as a copy of the reference")
    with no_grad():
        found = [answer_logps(reference, pairs.ids[i:i + rows], pairs.targets[i:i + rows]).data
                 for i in range(0, len(pairs.ids), rows)]
    return replace(pairs, reference=np.concatenate(found))


def batches(pairs, B, rng, pool=8):
    """B pairs at a time, for ever: each pass takes every pair once, in a new order.

    Of `pool` batches that follow each other the pairs are dealt out by length, so that little is
    padding. A pass ends with a smaller batch where B does not divide N. ValueError unless B ≥ 1.
    """
    if B < 1:
        raise ValueError(f"a batch takes at least 1 pair, not {B}")
    N, counted = len(pairs), pairs.targets != IGNORE
    ends = pairs.targets.shape[1] - counted[:, ::-1].argmax(axis=1)          # (2N,)
    length = np.maximum(ends[:N], ends[N:])
    while True:
        order = rng.permutation(N)
        for part in np.split(order, range(pool * B, N, pool * B)):
            part = part[np.argsort(length[part], kind="stable")]
            for i in rng.permutation(math.ceil(len(part) / B)):
                yield pairs.take(part[i * B:(i + 1) * B])


def preference_loss(model, method="dpo", **settings):
    """A loss for `fit`: batch -> (Tensor, number of pairs). method: "dpo", "ipo" or "orpo".

    settings: beta of dpo, tau of ipo, weight of orpo. Both answers of a pair go through the model
    in one call. ORPO reads mean log-probabilities and no reference. Raises ValueError on another
    method, and on a batch without the reference where one is needed.
    """
    if method not in LOSSES:
        raise ValueError(f"no method {method!r}: known are {', '.join(LOSSES)}")

    def loss(batch):
        N, total = len(batch), answer_logps(model, batch.ids, batch.targets)    # (2N,)
        if method == "orpo":
            total = total * (1 / (batch.targets != IGNORE).sum(axis=1)).astype(total.dtype)
            return LOSSES["orpo"](total[:N], total[N:], **settings), N
        if batch.reference is None:
            raise ValueError(f"{method} needs ln π_ref of the answers: call "
                             "with_reference(reference, pairs, V) once, before training")
        kept = batch.reference
        return LOSSES[method](total[:N], total[N:], kept[:N], kept[N:], **settings), N

    return loss
