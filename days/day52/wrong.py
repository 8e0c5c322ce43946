"""Day 52 · Readers that are nearly right: each has one mistake, and none of them complains."""

from dataclasses import replace

import numpy as np

from llm.weights.llama import row_order


def unpermuted(arch, weights):
    """Queries and keys stay in the order of the file, where neighbours are a pair."""
    end = (arch.H + arch.K) * arch.D
    back = np.argsort(row_order(arch.H + arch.K, arch.D))
    changed = {name: np.concatenate([w[:, :end][:, back], w[:, end:]], axis=1)
               for name, w in weights.items() if name.endswith("qkv.w")}
    return arch, weights | changed


def other_base(arch, weights):
    """The rotary base of the first Llama, whatever the file says."""
    return replace(arch, rotary=10000.0), weights


def neighbours(arch, weights):
    """A byte is taken to hold weights 2j and 2j + 1 of its block, not j and j + 16."""
    order = np.arange(32).reshape(2, 16).T.reshape(32)
    return arch, weights | {
        name: w.reshape(-1, 32, w.shape[1])[:, order].reshape(w.shape)
        for name, w in weights.items() if name.endswith(".w")}


def gates_swapped(arch, weights):
    """silu(up) · gate instead of silu(gate) · up."""
    pairs = [(f"blocks.{i}.gate.w", f"blocks.{i}.up.w") for i in range(arch.L)]
    return arch, weights | {a: weights[b] for pair in pairs for a, b in (pair, pair[::-1])}


def mean_removed(arch, weights):
    """LayerNorm, which takes the mean off, where RMSNorm was trained."""
    return replace(arch, norm="layer"), weights


def scaled_embedding(arch, weights):
    """The embedding is multiplied by √C, as the first transformer did."""
    return arch, weights | {"embed": weights["embed"] * np.float32(np.sqrt(arch.C)),
                            "head": weights["embed"].T}


READERS = {
    "as the format says": lambda arch, weights: (arch, weights),
    "queries and keys not put back": unpermuted,
    "rotary base 10,000": other_base,
    "nibbles of neighbours": neighbours,
    "gate and up exchanged": gates_swapped,
    "mean taken off in the norms": mean_removed,
    "embedding times √C": scaled_embedding,
}
