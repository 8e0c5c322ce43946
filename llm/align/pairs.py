"""Day 56 · Pairs of answers as arrays: chosen and rejected, padded, with masks of the answers.

A row is what a model would have written: day 53's prompt in ChatML, the answer's tokens and the end
token, which is the last of the row: there a reward is read. The mask marks the answer and its end
token. Left out: computing the prompt, which both answers share, only once.
"""

from dataclasses import dataclass

import numpy as np

from llm.generate.template import Message
from llm.tune.chat import end_id, prompt_ids


@dataclass(frozen=True)
class Encoded:
    """One answer to a prompt: ids (T,) int32, and mask (T,) bool, True at the answer's tokens."""

    ids: np.ndarray
    mask: np.ndarray

    def __post_init__(self):
        if self.ids.shape != self.mask.shape or self.ids.ndim != 1:
            raise ValueError(f"ids {self.ids.shape} and mask {self.mask.shape} must both be (T,)")
        if not self.mask.any():
            raise ValueError("the mask marks no token of an answer: not even its end token")

    @property
    def prompt(self):
        """The ids before the answer's first token."""
        return self.ids[:int(self.mask.argmax())]


@dataclass(frozen=True)
class PairBatch:
    """B pairs: ids (2B, T) int32 and mask (2B, T) bool, B chosen ones and then B rejected ones."""

    ids: np.ndarray
    mask: np.ndarray

    @property
    def size(self):
        """B, the number of pairs."""
        return len(self.ids) // 2

    @property
    def last(self):
        """(2B,): where each answer's last token stands."""
        return self.mask.shape[1] - 1 - self.mask[:, ::-1].argmax(axis=1)

    chosen = property(lambda self: self.ids[:self.size])                       # (B, T)
    rejected = property(lambda self: self.ids[self.size:])
    chosen_mask = property(lambda self: self.mask[:self.size])
    rejected_mask = property(lambda self: self.mask[self.size:])


def encode_answer(tokenizer, prompt, answer, T):
    """A prompt and an answer -> Encoded; an empty answer is its end token alone.

    T: the longest row. Raises ValueError where it is longer: a cut answer has lost its end.
    """
    return encode_answers(tokenizer, prompt, [answer], T)[0]


def encode_answers(tokenizer, prompt, answers, T):
    """The same for several answers to one prompt, which is encoded once: -> [Encoded, …]."""
    before, end = prompt_ids(tokenizer, [Message("user", prompt)]), end_id(tokenizer)
    found = []
    for answer in answers:
        ids = np.concatenate([before, tokenizer.encode(answer), [end]])
        if len(ids) > T:
            raise ValueError(f"the answer {answer[:40]!r} and its prompt take {len(ids)} tokens, "
                             f"and the window has {T}: leave it out, or use a longer window")
        found.append(Encoded(ids.astype(np.int32), np.arange(len(ids)) >= len(before)))
    return found


def encode_pair(tokenizer, pair, T):
    """A Pair -> (chosen, rejected), both Encoded. Raises ValueError as `encode_answer` does."""
    return tuple(encode_answers(tokenizer, pair.prompt, (pair.chosen, pair.rejected), T))


def encode_pairs(tokenizer, pairs, T):
    """Pairs -> ([(chosen, rejected), …], how many were left out since they are longer than T)."""
    kept, left_out = [], 0
    for pair in pairs:
        try:
            kept.append(encode_pair(tokenizer, pair, T))
        except ValueError:
            left_out += 1
    return kept, left_out


def collate(pairs, pad=0):
    """[(chosen, rejected), …] of Encoded -> PairBatch, padded on the right with the id `pad`.

    In a causal model what stands to the right cannot be seen, so any id will do.
    Raises ValueError for no pairs, and where the two prompts of a pair differ: then the margin
    would compare answers to different questions.
    """
    for i, (chosen, rejected) in enumerate(pairs):
        if not np.array_equal(chosen.prompt, rejected.prompt):
            raise ValueError(f"pair {i}: the prompts differ ({len(chosen.prompt)} and "
                             f"{len(rejected.prompt)} tokens): both answers must answer one prompt")
    ids, mask = pad_rows([c for c, _ in pairs] + [r for _, r in pairs], pad)
    return PairBatch(ids, mask)


def pad_rows(rows, pad=0):
    """[Encoded] -> ids (N, T) int32 and mask (N, T) bool, T that of the longest."""
    if not rows:
        raise ValueError("no rows to put into a batch")
    T = max(len(row.ids) for row in rows)
    ids, mask = np.full((len(rows), T), pad, np.int32), np.zeros((len(rows), T), bool)
    for i, row in enumerate(rows):
        ids[i, :len(row.ids)], mask[i, :len(row.ids)] = row.ids, row.mask
    return ids, mask


def pair_batches(pairs, B, rng, pool=8):
    """Yield PairBatches of B pairs for ever; each pass over all is in a new random order.

    pairs: [(chosen, rejected), …] of Encoded, at least B. A pass leaves out the last n mod B.
    Of `pool` batches that follow each other the pairs are dealt out by length, so that little is
    padding; the batches themselves then come in random order.
    """
    if not 1 <= B <= len(pairs):
        raise ValueError(f"batches of {B} pairs from {len(pairs)}: B must be 1 … {len(pairs)}")
    length = np.array([max(len(row.ids) for row in pair) for pair in pairs])
    while True:
        order = rng.permutation(len(pairs))[:len(pairs) // B * B]
        for part in np.split(order, range(pool * B, len(order), pool * B)):
            part = part[np.argsort(length[part], kind="stable")].reshape(-1, B)
            for batch in rng.permutation(part):
                yield collate([pairs[i] for i in batch])
