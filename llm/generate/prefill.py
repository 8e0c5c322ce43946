"""Day 43 · Reading a prompt with packed matrices: day 42's decode, the products by their format.

A chunk of n tokens reads each matrix once for all of them, so it is BLAS's work: 2n FLOPs a
weight. Plain NumPy. Left out: attention that needs no (n, T) scores (day 50).
"""

import numpy as np

from llm.functions.dense import gelu, silu
from llm.generate.decode import attend, norm, split
from llm.generate.rotate import turn


def prefill(arch, weights, ids, cache, every=False):
    """Read n checked ids (n,) behind what is in the cache -> logits (V,) after the last.

    weights: as day 42's, the matrices and "head" as `Packed` with a format. every: the logits
    after each id instead, (n, V). Raises ValueError, with the cache as it was, if there is no room.
    """
    cache.check_room(len(ids))
    positions = np.arange(cache.length, cache.length + len(ids))
    x = np.asarray(weights["embed"][ids], np.float32)                       # (n, C)
    if arch.rotary is None:
        x = x + weights["positions"][positions]
    for i in range(arch.L):
        part = lambda name, i=i: f"blocks.{i}.{name}"
        q, k, v = split(arch, linear(weights, part("qkv"), norm(arch, weights, part("norm1"), x)))
        if arch.rotary is not None:
            q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)
        cache.write(i, k, v)
        x = x + linear(weights, part("project"),
                       attend(q, *cache.read(i, len(ids)), cache.length))
        y = norm(arch, weights, part("norm2"), x)
        inside = linear(weights, part("up"), y)                             # (n, F)
        if arch.feed_forward == "swiglu":
            inside = silu(linear(weights, part("gate"), y)) * inside
        else:
            inside = gelu(inside)
        x = x + linear(weights, part("down"), inside)
    cache.advance(len(ids))
    logits = product(weights["head"], norm(arch, weights, "norm", x if every else x[-1:]))
    return logits if every else logits[0]


def product(matrix, x):
    """x (n, K) by a packed matrix -> (n, N)."""
    return matrix.format.matmul(matrix.data, np.ascontiguousarray(x, np.float32), matrix.N)


def linear(weights, name, x):
    """The same with its bias, where there is one."""
    y = product(weights[name + ".w"], x)
    return y + weights[name + ".b"] if name + ".b" in weights else y
