"""Day 43 · Laying out the engine's memory: packed matrices, tables of addresses, workspace.

Everything that a token touches is made here, once. Left out: sharing one copy of the weights
between engines; an engine made from `Packed` matrices shares their bytes already.
"""

import fnmatch
from dataclasses import replace

import numpy as np

from llm.kernels.barrier import WORDS
from llm.kernels.matvec import Packed, R, aligned, scratch, tiles
from llm.kernels.plan import Plan
from llm.kernels.pointers import PREPARE, ROWS, address

AHEAD = 1 << 18                         # bytes: a quarter of what a core's second cache holds
MATRICES = ("qkv", "project", "up", "gate", "down")     # in the order of the kernel's tables


def pack(name, array, formats):
    """A matrix of a product as Packed; anything else as it is, but float32 and in one piece."""
    if isinstance(array, Packed):
        return array if array.format else Packed(array.data, array.N, array.K,
                                                 choose(name, formats))
    if name == "head" or name.endswith(".w"):
        chosen = choose(name, formats)
        return Packed(chosen.pack(array), array.shape[1], array.shape[0], chosen)
    return np.ascontiguousarray(array, np.float32) if isinstance(array, np.ndarray) else array


def choose(name, formats):
    """The format of the first pattern that fits; ValueError if none does."""
    for pattern, chosen in formats.items():
        if fnmatch.fnmatchcase(name, pattern):
            return chosen
    raise ValueError(f"no format for {name}: the patterns are {', '.join(formats)}; add '*'")


def move_together(weights):
    """Move every `Packed` matrix of this dict into one block of memory, in place.

    A block of several megabytes gets pages of 2 MB instead of 4 kB (NumPy asks Linux for them), so
    fewer addresses have to be looked up. Each old array is let go as soon as it has been copied.
    """
    sizes = {name: R * tiles(w.data.size) for name, w in weights.items() if isinstance(w, Packed)}
    block, at = aligned(sum(sizes.values())), 0
    for name, size in sizes.items():
        w = weights[name]
        block[at:at + w.data.size] = w.data
        weights[name] = replace(w, data=block[at:at + w.data.size])
        at += size


def floats(*shape):
    """float32 zeros whose first lies at a multiple of 64 bytes."""
    return aligned(4 * int(np.prod(shape))).view(np.float32).reshape(shape)


def lay_out(arch, weights, cache, threads):
    """The kernel's Plan: tables of where everything is, and a workspace for `threads` threads.

    weights: matrices and "head" as Packed, each with its format. They must outlive the plan.
    """
    matrices, (vectors, places) = table_of_matrices(arch, weights), gather(arch, weights)
    padded = lambda n: floats(R * tiles(n))
    position = np.arange(cache.T_max)[:, None]
    pairs = np.arange(arch.D // 2 if arch.rotary else 0)
    angles = position * (arch.rotary or 1.0) ** (-pairs / (arch.D / 2))    # (T_max, D/2), day 31
    longest = max(arch.C, arch.F, arch.H * arch.D)
    desk = 2 * arch.C + 2 * arch.D + cache.T_max
    return Plan(
        L=arch.L, H=arch.H, K=arch.K, D=arch.D, F=arch.F, eps=arch.eps, ahead=AHEAD,
        rms=arch.norm == "rms", gated=arch.feed_forward == "swiglu",
        half=cache.k.dtype == np.float16, matrices=matrices, vectors=vectors, places=places,
        cos=np.cos(angles).astype(np.float32), sin=np.sin(angles).astype(np.float32),
        k=cache.k, v=cache.v, k16=cache.k, v16=cache.v, x=floats(arch.C),
        qkv=padded((arch.H + 2 * arch.K) * arch.D), heads=floats(arch.H * arch.D),
        branch=padded(arch.C), up=padded(arch.F), gate=padded(arch.F), logits=padded(arch.V),
        desks=floats(threads, R * tiles(desk)),
        works=aligned(threads * R * tiles(scratch(longest))).reshape(threads, -1),
        sync=aligned(8 * WORDS).view(np.int64), marks=np.zeros(5 * arch.L + 2, np.int64))


def table_of_matrices(arch, weights):
    """int64 (5L + 1, 6): for each matrix its functions, its bytes, and its shape."""
    table = np.zeros((5 * arch.L + 1, 6), np.int64)
    names = [f"blocks.{i}.{name}.w" for i in range(arch.L) for name in MATRICES] + ["head"]
    for row, name in zip(table, names):
        if name in weights:                                   # a GELU has no gate
            w = weights[name]
            row[:] = (address(w.format.rows, ROWS), address(w.format.prepare, PREPARE),
                      w.data.ctypes.data, w.data.size, w.N, w.K)
    return table


def gather(arch, weights):
    """Gains and biases one after another, float32, and where each begins, int64; see Plan."""
    parts = [*(name + ".b" for name in MATRICES), "norm1.gain", "norm1.bias", "norm2.gain",
             "norm2.bias"]
    names = [f"blocks.{i}.{part}" for i in range(arch.L) for part in parts]
    names += [""] * len(MATRICES) + ["norm.gain", "norm.bias"]       # as if of one more layer
    vectors = [np.asarray(weights.get(name, ()), np.float32) for name in names]
    return np.concatenate(vectors), np.cumsum([0, *(v.size for v in vectors)])
