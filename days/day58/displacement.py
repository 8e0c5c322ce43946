"""Day 58 · Why the chosen answer can fall: what one step of DPO does to it, by gradients.

With g = ∇ ln π(answer), a small step of DPO from the reference changes ln π(w) of pair i by

    ηβ/2 · mean over pairs j of (gw_i · gw_j − gw_i · gl_j).

The term j = i is the pair's own doing, all others come from its neighbours in the batch.
"""

import numpy as np

from days.day58.study import logps_of
from llm.align.offline import answer_logps, preference_loss


def gradients(model, pairs):
    """∇ ln π of every answer with respect to all weights, (2N, P) float32."""
    named, rows = model.named_parameters(), []
    for ids, targets in zip(pairs.ids, pairs.targets):
        clear(named)
        answer_logps(model, ids[None], targets[None]).backward(np.ones(1, np.float32))
        rows.append(np.concatenate([p.grad.ravel() for p in named.values()]))
    clear(named)
    return np.stack(rows)


def clear(named):
    for p in named.values():
        p.grad = None


def predicted(gram):
    """(2N, 2N) of all gᵢ·gⱼ -> what a step of length 1 along DPO's own descent, times 2/β, does.

    Returns for each chosen answer (N,): the change of its ln π by its own pair, and by all.
    """
    N = len(gram) // 2
    per_pair = gram[:N, :N] - gram[:N, N:]                                  # gw_i·(gw_j − gl_j)
    return np.diag(per_pair) / N, per_pair.mean(axis=1)


def one_step(model, pairs, beta=0.5, size=0.02):
    """Predict, take one plain gradient step of DPO, look, and put the weights back.

    size: the largest predicted change of a chosen answer, in nats: small, so that the first order
    is nearly all there is. Returns a dict of plain numbers and lists.
    """
    G = gradients(model, pairs)
    gram = (G @ G.T).astype(np.float64)                                     # (2N, 2N)
    N, (own, together) = len(pairs), predicted(gram)
    rate = size / (beta / 2 * np.abs(together).max())
    named = model.named_parameters()
    kept = {name: p.data.copy() for name, p in named.items()}
    before = logps_of(model, pairs)[0]
    value, _ = preference_loss(model, "dpo", beta=beta)(pairs)
    value.backward()
    for p in named.values():
        p.data = p.data - np.float32(rate) * p.grad
    after = logps_of(model, pairs)[0]
    clear(named)
    for name, p in named.items():
        p.data = kept[name]
    w, l = np.diag(gram)[:N], np.diag(gram)[N:]  # noqa: E741
    cross = np.diag(gram[:N, N:])
    return {"predicted": rate * beta / 2 * together, "own": rate * beta / 2 * own,
            "measured": (after - before).astype(np.float64),
            "cosine": cross / np.sqrt(w * l), "longer": np.sqrt(l / w),
            "falls_alone": float((own < 0).mean()), "falls": float((together < 0).mean())}
