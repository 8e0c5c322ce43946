"""Day 49 · Ways to make few key heads of many, and what they leave of the heads' size."""

import numpy as np

from llm.weights.pool import mean, pool_heads


def first(heads):
    """(…, G, D) -> (…, D): the first head of each group; the others are thrown away."""
    return heads[..., 0, :]


def flip(state, H, rng):
    """Another multi-head model (K = H) that computes the same function, by random signs.

    A rotary pair (i, i + D/2) of a head's queries and keys changes sign together, which turns both
    by half a circle and leaves every score as it was. A channel of the values changes sign with
    the row of `project` that reads it. What is joined across heads afterwards is another sum.
    """
    flipped = {}
    for name, array in state.items():
        if name.endswith("qkv.w"):
            D = array.shape[1] // (3 * H)
            pairs = np.tile(rng.choice([-1, 1], (H, D // 2)), 2).ravel()        # (H·D,)
            channels = rng.choice([-1, 1], H * D)
            array = array * np.concatenate([pairs, pairs, channels]).astype(array.dtype)
            rows = channels[:, None].astype(array.dtype)
        elif name.endswith("project.w"):                     # comes after the qkv of its block
            array = array * rows
        flipped[name] = array
    return flipped


WAYS = {"mean": lambda state, H, to, rng: pool_heads(state, H, H, to),
        "first": lambda state, H, to, rng: pool_heads(state, H, H, to, join=first),
        "flipped": lambda state, H, to, rng: pool_heads(flip(state, H, rng), H, H, to)}


def sizes(state, H, to):
    """The length of a group's mean over its heads' own (root mean square): [keys, values].

    1 if the heads of a group are equal, 1/√(H/to) if they have nothing in common.
    """
    found = []
    for name, array in state.items():
        if name.endswith("qkv.w"):
            groups = array.reshape(len(array), 3, to, H // to, -1)[:, 1:]   # (C, 2, to, G, D)
            own = np.sqrt((groups**2).mean(axis=(0, 2, 3, 4)))
            found.append(np.sqrt((mean(groups)**2).mean(axis=(0, 2, 3))) / own)
    return np.mean(found, axis=0).tolist()
