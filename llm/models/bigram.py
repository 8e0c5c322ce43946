"""Day 09 · Softmax regression: the bigram model, learned by gradient descent instead of counted.

The weights are a table w (V, V) of logits: row c holds the logits of the token after c, so
softmax(w[c]) is a one-hot vector times w, then softmax. Gradients are written by hand, no tape.
Left out: hidden layers (day 11), batches and better optimizers (days 16 to 18), longer contexts.
"""

import numpy as np

from llm.functions.probability import cross_entropy, entropy, log_softmax, softmax


def count_pairs(ids, vocab_size):
    """How often token j follows token i: ids (T,) → (V, V) float64, the sum is T − 1.

    Raises: ValueError for ids of another rank, outside 0 … V − 1, or fewer than two.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids must be (T,) with T of 2 or more, not {ids.shape}")
    inside("ids", ids, vocab_size)
    pairs = ids[:-1].astype(np.int64) * vocab_size + ids[1:]
    counts = np.bincount(pairs, minlength=vocab_size * vocab_size)
    return counts.reshape(vocab_size, vocab_size).astype(np.float64)


def loss_and_gradient(w, contexts, targets):
    """Mean cross-entropy in nats and ∂L/∂w, pair by pair: contexts and targets (N,) → (), (V, V).

    ∂L/∂z = (p − y)/N for the logits z = w[contexts] (N, V), y one-hot. About 6·N·V FLOPs.
    Source: Bridle 1990; the derivation is in the note of this day.
    """
    w, contexts, targets = square(w), np.asarray(contexts), np.asarray(targets)
    if contexts.ndim != 1 or contexts.shape != targets.shape or not contexts.size:
        raise ValueError(f"contexts {contexts.shape} and targets {targets.shape} must be (N,) "
                         "both, with N of 1 or more")
    inside("contexts", contexts, len(w))
    inside("targets", targets, len(w))
    n = len(contexts)
    z = w[contexts]                    # (N, V)
    dz = softmax(z)                    # (N, V), p
    dz[np.arange(n), targets] -= 1     # p − y
    dz /= n
    dw = np.zeros_like(w)              # (V, V)
    np.add.at(dw, contexts, dz)        # a context met twice gets both; dw[contexts] += dz loses one
    return cross_entropy(z, targets), dw


def loss_and_gradient_of_counts(w, counts):
    """The same loss and gradient from the table of counts: (V, V), (V, V) → (), (V, V).

    All pairs with one context share p, so their sum is (count of c)·p − counts[c]. About 6·V²
    FLOPs, however long the text is.
    """
    w, counts = square(w), np.asarray(counts)
    if counts.shape != w.shape or not counts.sum() > 0:
        raise ValueError(f"counts {counts.shape} must have the shape of w {w.shape} and not be "
                         "all zero")
    joint = (counts / counts.sum()).astype(w.dtype)  # (V, V), sum 1
    log_p = log_softmax(w)                           # (V, V)
    share = joint.sum(axis=1, keepdims=True)         # (V, 1), how often each context occurs
    return -(joint * log_p).sum(), share * np.exp(log_p) - joint


def counted_loss(counts):
    """The loss of the counted bigram on its own text, in nats: the lowest any w can reach."""
    counts = np.asarray(counts, dtype=np.float64)
    seen = counts[counts.sum(axis=1) > 0]            # rows of contexts that occur
    total = seen.sum(axis=1, keepdims=True)
    return float((total[:, 0] * entropy(seen / total)).sum() / seen.sum())


def row_rates(counts):
    """The step 1/λ of each row: counts (V, V) → (V, 1); λ = share/2 bounds the row's curvature.

    Gradient descent never overshoots at these rates. `row_rates(counts).min()` is the largest
    rate that is safe for all rows at once. A context that never occurs counts as occurring once.
    """
    counts = np.asarray(counts, dtype=np.float64)
    return 2 * counts.sum() / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def descend(w, counts, rate, steps, watch=None):
    """`steps` steps of w ← w − rate·∂L/∂w: w (V, V), rate a number or (V, 1) → the new w.

    `watch(step, loss, w)` sees every step, and step 0, before the update; True from it ends the
    descent. w itself is not changed.
    """
    w = np.array(w)
    for step in range(steps + 1):
        loss, dw = loss_and_gradient_of_counts(w, counts)
        if watch is not None and watch(step, float(loss), w):
            break
        if step < steps:
            w -= (rate * dw).astype(w.dtype)
    return w


def late_gap(counts, rate):
    """g such that after t steps, t large, the loss is about g/t above the counted one.

    A context with n tokens seen after it, and K = V − n never seen, adds K·n/(V·rate), whatever
    its share. `rate` is a number or (V, 1). The derivation is in the note of this day.
    """
    counts = np.asarray(counts, dtype=np.float64)
    vocab_size = len(counts)
    occurs = counts.sum(axis=1) > 0                  # (V,)
    seen = (counts > 0).sum(axis=1)                  # (V,)
    rate = np.broadcast_to(rate, (vocab_size, 1))[:, 0]
    return float(occurs @ ((vocab_size - seen) * seen / (vocab_size * rate)))


def square(w):
    """w as an array (V, V), or a ValueError with its shape."""
    w = np.asarray(w)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise ValueError(f"w must be a table of logits (V, V), not {w.shape}")
    return w


def inside(name, ids, vocab_size):
    """Nothing, or a ValueError where `ids` are not all in 0 … V − 1."""
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"{name} {ids.shape} run from {ids.min()} to {ids.max()}, outside "
                         f"0 … {vocab_size - 1}")
