"""Day 51 · Looking at a router: what its choice depends on, whom an expert serves, who is dropped.

"The choice" is a token's first one, the expert with the largest gate.
"""

import numpy as np

from days.day48.small import nats
from days.day51.small import N
from llm.data.batches import sliding_windows
from llm.functions import routing
from llm.grad.tensor import no_grad


def choices(model, ids, T, windows=256):
    """(inputs, targets, [first choice of each block]): each (windows, T), side by side in ids."""
    inputs, targets = next(sliding_windows(ids, windows, T, T))
    with no_grad():
        model(inputs)
    first = [layer.last.experts[:, 0].reshape(inputs.shape) for layer in model.mixtures()]
    return inputs, targets, first


def information(a, b):
    """Mutual information of two arrays of whole numbers of one shape, in nats, from counts.

    Counts of a finite text overstate it. The same estimate after shuffling one of the two tells
    by how much.
    """
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a.ravel(), b.ravel()), 1 / a.size)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())


def dependence(model, ids, T, rng):
    """For each block: the share of the choice's entropy that each thing tells.

    [[token, the one before, the one that follows, position in the window, shuffled token]].
    """
    inputs, targets, first = choices(model, ids, T)
    inside = slice(1, None)                       # the first of a window has none before it
    found = []
    for experts in first:
        e = experts[:, inside]
        things = [inputs[:, inside], inputs[:, :-1], np.maximum(targets[:, inside], 0),
                  np.broadcast_to(np.arange(1, T), e.shape),
                  rng.permutation(inputs[:, inside].ravel()).reshape(e.shape)]
        found.append([information(e, thing) / information(e, e) for thing in things])
    return found


def favourites(model, ids, T, tokenizer, best=6, least=20):
    """For each block, for each expert: [share of the tokens, its most over-represented ones].

    A token counts where it occurs at least `least` times; [text, how many times more often it
    goes here than the average token does].
    """
    inputs, _, first = choices(model, ids, T)
    often = np.bincount(inputs.ravel(), minlength=tokenizer.vocab_size)
    found = []
    for experts in first:
        rows = []
        for i in range(N):
            mine = np.bincount(inputs[experts == i], minlength=len(often))
            share = mine.sum() / experts.size
            ratio = np.where(often >= least, mine / np.maximum(often, 1), 0) / max(share, 1e-9)
            top = [t for t in np.argsort(-ratio, kind="stable")[:best] if mine[t]]
            rows.append([share, [[visible(tokenizer.decode([int(t)])), ratio[t]] for t in top]])
        found.append(rows)
    return found


def visible(text):
    """Spaces and ends of lines as signs that can be seen."""
    return text.replace(" ", "␣").replace("\n", "⏎")


def limited(model, ids, plan, factor):
    """[share of choices dropped, nats a token] with this capacity factor in every block."""
    for layer in model.mixtures():
        layer.capacity = factor
    cost = nats(model, ids, plan.T)
    choices(model, ids, plan.T, plan.B)                   # a batch as in training
    dropped = float(np.mean([layer.last.plan.dropped for layer in model.mixtures()]))
    for layer in model.mixtures():
        layer.capacity = None
    return [dropped, cost]


def by_chance(plan, k, factor, rng, rounds=50):
    """The share dropped where every token draws its k experts, all equally likely."""
    T = plan.B * plan.T
    limit = routing.capacity_of(T, N, k, factor)
    return float(np.mean([routing.assign(routing.choose(rng.random((T, N)), k), N, limit).dropped
                          for _ in range(rounds)]))


def places(model, ids, plan, factor):
    """Who is dropped: [[share of first choices, of second ones] of the first, …, last window].

    Of a batch as in training, the mean over blocks and over as many batches as there are.
    """
    for layer in model.mixtures():
        layer.capacity = factor
    found = []
    with no_grad():
        for inputs, _ in sliding_windows(ids, plan.B, plan.T, plan.T):
            if len(inputs) == plan.B:
                model(inputs)
                for layer in model.mixtures():
                    where = layer.last.plan.where
                    lost = where == len(layer.last.plan.rows)
                    found.append(lost.reshape(plan.B, plan.T, -1).mean(1))
    for layer in model.mixtures():
        layer.capacity = None
    return np.mean(found, axis=0)
