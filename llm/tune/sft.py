"""Day 53 · Supervised fine-tuning: batches of examples, and the loss on the answers alone.

An example is what `llm/tune/chat.py` makes: ids (T + 1,) and a mask of the tokens to learn. Padded
batches have one example a row; packed ones have several (llm/tune/packing.py). Both are endless
iterators for `fit`. Left out: weights that make a short answer count as much as a long one.
"""

import numpy as np

from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.tune.packing import borders_of, fill, pick

IGNORE = -100                    # a target that nothing is asked of, as everywhere in this course


def shifted(ids, mask):
    """(ids, mask), both (T + 1,) -> (inputs, targets), both (T,) int32.

    targets[t] is ids[t + 1] where mask[t + 1] says so, else −100: the token before an answer's
    first predicts that first one. Raises ValueError where nothing is left to learn.
    """
    ids, mask = np.asarray(ids, np.int32), np.asarray(mask, bool)
    if ids.ndim != 1 or ids.shape != mask.shape:
        raise ValueError(f"ids {ids.shape} and mask {mask.shape}: wanted two of (T + 1,)")
    if not mask[1:].any():
        raise ValueError(f"an example of {len(ids)} tokens of which none is the assistant's: "
                         "there is nothing to learn from it")
    return ids[:-1], np.where(mask[1:], ids[1:], IGNORE).astype(np.int32)


def stack(pairs, T):
    """Rows [(inputs, targets), …] of at most T tokens -> two (B, T) int32, 0 and −100 at the end.

    No padding token is needed: causal attention looks back, and padding stands behind.
    """
    inputs, targets = (np.full((len(pairs), T), fill, np.int32) for fill in (0, IGNORE))
    for b, (x, y) in enumerate(pairs):
        inputs[b, :len(x)], targets[b, :len(y)] = x, y
    return inputs, targets


def endless(n, rng):
    """0 … n − 1 in a new random order, again and again. ValueError where there is nothing."""
    if n < 1:
        raise ValueError("no examples to learn from")
    while True:
        yield from rng.permutation(n)


def padded_batches(examples, B, T, rng):
    """Yield (inputs, targets, None): B examples, each a row as long as the longest of them.

    Every example comes once before any comes again. Raises ValueError for none, or a longer one
    than the window of T tokens.
    """
    pairs = checked(examples, T)
    order = endless(len(pairs), rng)
    while True:
        batch = [pairs[next(order)] for _ in range(B)]
        yield *stack(batch, max(len(x) for x, _ in batch)), None


def packed_batches(examples, B, T, rng):
    """Yield (inputs, targets, index): B rows of T tokens, filled with whole examples.

    index (N, S): where each of the N examples stands, for `Borders`. Every example comes once
    before any comes again; each round is packed anew. Raises ValueError as `padded_batches`.
    """
    pairs = checked(examples, T)
    lengths = [len(x) for x, _ in pairs]
    rows = packed_rows(lengths, T, rng)
    while True:
        batch = [next(rows) for _ in range(B)]
        joined = [tuple(np.concatenate([pairs[i][side] for i in row]) for side in (0, 1))
                  for row in batch]
        yield *stack(joined, T), borders_of(batch, lengths, T)


def packed_rows(lengths, T, rng):
    """Yield rows of examples for ever, in a new random order each round."""
    while True:
        rows = fill(lengths, T, rng.permutation(len(lengths)))
        yield from (rows[i] for i in rng.permutation(len(rows)))


def checked(examples, T):
    """[(inputs, targets), …]; ValueError for none, or for one that does not fit into T tokens."""
    pairs = [shifted(*one) for one in examples]
    if not pairs:
        raise ValueError("no examples to learn from")
    for i, (x, _) in enumerate(pairs):
        if len(x) > T:
            raise ValueError(f"example {i} has {len(x) + 1} tokens, and the window has room for "
                             f"{T} and one to predict: shorten it, or leave it out")
    return pairs


def answer_loss(model, inputs, targets):
    """Mean cross-entropy over the targets that are not −100, in nats, and how many those are.

    The head is applied at those positions only: of B·T rows of logits it makes the M that count,
    2·C·V FLOPs each. The same number as `model.loss(inputs, targets)`.
    """
    where = np.flatnonzero(targets != IGNORE)                                   # (M,)
    logits = model.logits(pick(model.hidden(inputs), where))                    # (M, V)
    return ops.cross_entropy(logits, targets.reshape(-1)[where]), where.size


def sft_loss(model, borders=None):
    """The loss for `fit`: batch (inputs, targets, index) -> (Tensor, count).

    borders: what `pack_attention(model)` returned; needed for packed batches.
    """
    def loss(batch):
        inputs, targets, index = batch
        if index is None:
            return answer_loss(model, inputs, targets)
        if borders is None:
            raise ValueError("a packed batch for a model that knows no borders: pass what "
                             "pack_attention(model) returned, or its examples see each other")
        with borders(index):
            return answer_loss(model, inputs, targets)
    return loss


def evaluate(model, examples, B=32):
    """Mean nats per answer token over all examples, without a gradient."""
    pairs = [shifted(*one) for one in examples]
    total, count = 0.0, 0
    with no_grad():
        for first in range(0, len(pairs), B):
            batch = pairs[first:first + B]
            value, n = answer_loss(model, *stack(batch, max(len(x) for x, _ in batch)))
            total, count = total + float(value.data) * n, count + n
    return total / count
