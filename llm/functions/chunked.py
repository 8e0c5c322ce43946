"""Day 54 · Head and cross-entropy in one, a few tokens at a time, over a table that is frozen.

SmolLM2 has V = 49,152 logits for each token: at 1,024 tokens 201 MB, and as much again for their
gradient. Here a chunk of rows gets its logits, its loss and its gradient with respect to `hidden`
at once, and then the logits are overwritten by the next chunk's. What is kept for the backward is
that gradient, (N, C), and not (N, V). No product is computed twice. Tokens whose target is −100
need no logits at all, so in fine-tuning on answers the head works for the answers only.

Left out: a table that is trained (its gradient is as large as the table).
"""

import numpy as np

from llm.functions.lowrank import rows_of

CHUNK = 128                  # tokens: 25 MB of logits at V = 49,152
MANY = 1024                  # from so many on four chunks in one: an eighth faster, 75 MB more


def softmax_grad(logits, ids, factor):
    """Sum of the losses of n rows; logits (n, V) ← factor · (softmax − one-hot), in place."""
    n = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[n, ids].sum(dtype=np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits *= factor / total
    logits[n, ids] -= factor
    return np.log(total).sum(dtype=np.float64) - right


def head_loss(hidden, table, targets, chunk=None, gradient=True, ignore=-100,
              softmax=softmax_grad):
    """Mean of −log softmax(hidden · tableᵀ)[target] over the targets that are not `ignore`.

    hidden (..., C), table (V, C), targets (...) ids or `ignore` -> a number, saved = (dhidden,).
    chunk: tokens at once; None: CHUNK, or four times as many if MANY are asked for.
    gradient: False computes the loss only, for validation. softmax: or a twin of it. FLOPs: 2·C·V
    for each target that counts, and 2·C·V more for the gradient. Without such a target: 0.
    Raises ValueError where shapes do not fit or a target is neither an id nor `ignore`.
    """
    kept, ids = asked(hidden, table, targets, chunk, ignore)
    rows, dhidden = rows_of(hidden), np.zeros_like(hidden) if gradient else None
    loss, count = 0.0, max(len(kept), 1)
    chunk = chunk or (4 * CHUNK if count >= MANY else CHUNK)
    for start in range(0, len(kept), chunk):
        at, right = kept[start:start + chunk], ids[start:start + chunk]
        logits = rows[at] @ table.T                            # (n, V)
        loss += softmax(logits, right, 1 / count)
        if gradient:
            rows_of(dhidden)[at] = logits @ table              # now their gradient
    return np.asarray(loss / count, hidden.dtype), (dhidden,)


def head_loss_vjp(dout, dhidden):
    """The gradient was made on the way forward; dout, one number, scales it."""
    if dhidden is None:
        raise ValueError("head_loss(gradient=False) keeps nothing to go back with")
    return dout * dhidden, None, None


def asked(hidden, table, targets, chunk, ignore):
    """(places of the rows that have a target, those targets), checked."""
    if hidden.ndim < 1 or table.ndim != 2 or hidden.shape[-1] != table.shape[1]:
        raise ValueError(f"hidden {hidden.shape} does not fit the table {table.shape}: the last "
                         "axes must agree")
    if targets.shape != hidden.shape[:-1] or targets.dtype.kind not in "iu":
        raise ValueError(f"targets {targets.shape} {targets.dtype} for hidden {hidden.shape}: "
                         "wanted one integer a row")
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk has at least 1 token, not {chunk}")
    kept = np.flatnonzero(targets.reshape(-1) != ignore)
    ids = targets.reshape(-1)[kept]
    if ids.size and not 0 <= ids.min() <= ids.max() < len(table):
        raise ValueError(f"targets from {ids.min()} to {ids.max()}: wanted ids of 0 … "
                         f"{len(table) - 1}, or {ignore} where nothing is asked")
    return kept, ids
