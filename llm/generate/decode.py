"""Day 42 · Decoding with a cache: each token is read once, and meets the keys of all before it.

Plain NumPy, one sequence, all the architectures of llm/generate/architecture.py. It is the
reference that the compiled engine (day 43) is held against. Left out: speed, batches (day 47).
"""

import math

import numpy as np

from llm.functions.dense import gelu, linear, silu
from llm.functions.probability import softmax
from llm.generate.rotate import turn


def decode(arch, weights, ids, cache):
    """Read ids (n,) behind what is in the cache -> logits (n, V), row j for the one after ids[j].

    weights: as in `check_weights`, which is not called here. All at once or cut into chunks in
    any way, the logits are the same up to rounding. FLOPs: see `count_flops`.
    Raises ValueError, with the cache as it was, on no ids, ids outside 0 … V − 1, more ids than
    room, and a cache of another architecture.
    """
    ids = check_ids(arch, ids)
    cache.check_architecture(arch)
    cache.check_room(len(ids))
    n, start = len(ids), cache.length
    positions = np.arange(start, start + n)
    x = weights["embed"][ids]                                               # (n, C)
    if arch.rotary is None:
        x = x + weights["positions"][positions]
    for i in range(arch.L):
        block = f"blocks.{i}."
        y = norm(arch, weights, block + "norm1", x)
        q, k, v = split(arch, apply(weights, block + "qkv", y))
        if arch.rotary is not None:
            q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)
        cache.write(i, k, v)
        x = x + apply(weights, block + "project", attend(q, *cache.read(i, n), start))
        y = norm(arch, weights, block + "norm2", x)
        x = x + feed_forward(arch, weights, block, y)
    cache.advance(n)
    x = norm(arch, weights, "norm", x)
    return x @ weights["head"] if "head" in weights else x @ weights["embed"].T     # (n, V)


def check_ids(arch, ids):
    """ids as an array (n,), n ≥ 1, each in 0 … V − 1; else ValueError."""
    ids = np.asarray(ids)
    if ids.size == 0:
        raise ValueError("nothing to read: give at least one id")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids {ids.shape} of type {ids.dtype}: wanted integers, (n,)")
    wrong = (ids < 0) | (ids >= arch.V)
    if wrong.any():
        j = int(wrong.argmax())
        raise ValueError(f"id {ids[j]} at position {j}: the vocabulary has 0 … {arch.V - 1}")
    return ids


def apply(weights, name, x):
    """The linear layer `name`, with its bias where there is one: (n, Cin) -> (n, Cout)."""
    return linear(x, weights[name + ".w"], weights.get(name + ".b"))


def norm(arch, weights, name, x):
    """LayerNorm (day 21), or RMSNorm, which does not subtract the mean: (n, C) -> (n, C)."""
    if arch.norm == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + arch.eps) * weights[name + ".gain"]
    return x + weights[name + ".bias"] if name + ".bias" in weights else x


def split(arch, qkv):
    """(n, (H + 2K)·D) -> q (H, n, D), k and v (K, n, D)."""
    heads = qkv.reshape(len(qkv), -1, arch.D).swapaxes(0, 1)                # (H + 2K, n, D)
    return np.split(heads, [arch.H, arch.H + arch.K])


def attend(q, k, v, start):
    """q (H, n, D) at positions start … meets k and v (K, start + n, D) -> (n, H·D).

    The H / K query heads that share keys are stacked into one product, so the keys are read once
    for all of them. Source: Ainslie et al. (2023), section 2.2.
    """
    (H, n, D), (K, end, _) = q.shape, k.shape
    scores = q.reshape(K, H // K * n, D) @ k.swapaxes(1, 2) / math.sqrt(D)
    scores = scores.reshape(K, H // K, n, end)
    if n > 1:                                        # token j of the chunk sees start + j + 1 keys
        scores = np.where(np.tri(n, end, start, dtype=bool), scores, -np.inf)
    out = softmax(scores).reshape(K, H // K * n, end) @ v                   # (K, H/K · n, D)
    return out.reshape(H, n, D).swapaxes(0, 1).reshape(n, H * D)


def feed_forward(arch, weights, block, x):
    """Each token by itself (day 33): (n, C) -> (n, C). "swiglu" is Shazeer (2020), eq. 6."""
    up = apply(weights, block + "up", x)                                    # (n, F)
    if arch.feed_forward == "swiglu":
        return apply(weights, block + "down", silu(apply(weights, block + "gate", x)) * up)
    return apply(weights, block + "down", gelu(up))


def count_flops(arch, start, n):
    """FLOPs of reading n tokens behind `start`: n(2·weights in products) + 4·L·H·D·n(start + n).

    Every query of a chunk is scored against all start + n keys, also those that it may not see.
    """
    matrices = arch.C * (arch.H + 2 * arch.K) * arch.D + arch.H * arch.D * arch.C
    matrices += (3 if arch.feed_forward == "swiglu" else 2) * arch.C * arch.F
    return (2 * n * (arch.L * matrices + arch.V * arch.C)
            + 4 * arch.L * arch.H * arch.D * n * (start + n))


def generate(step, ids, n, choose):
    """Yield n new ids after `ids`, each chosen from the logits that follow all before it.

    step(ids) -> logits (V,) for the token after the last; it remembers what it has read.
    choose(logits, so_far) -> id; so_far: the list of all ids, those of the prompt too. The last
    id is not read any more, so the cache needs room for len(ids) + n − 1.
    Raises ValueError, at the first id, if there is none to continue.
    """
    so_far = [int(i) for i in ids]
    if not so_far:
        raise ValueError("nothing to continue: give at least one id")
    unread = so_far[:]
    for _ in range(n):
        new = int(choose(step(unread), so_far))
        so_far.append(new)
        unread = [new]
        yield new
