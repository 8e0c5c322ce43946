"""Day 43 · The plan: everything a token touches, handed over as one number.

An array that enters compiled code gets a small header, allocated for the call; a step has 18
arrays and is called for every token. So the engine writes addresses and sizes into a table once,
and the kernel, which is told where the table is, makes its arrays from that. Left out: more than
one text (day 47).
"""

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from llm.kernels.barrier import WORDS
from llm.kernels.matvec import R
from llm.kernels.pointers import pointer

ROWS, PREPARE, DATA, SIZE, N, K = range(6)       # columns of `matrices`
QKV, PROJECT, UP, GATE, DOWN = range(5)          # five matrices a layer; then the head
GAIN1, SHIFT1, GAIN2, SHIFT2 = range(5, 9)       # vectors of a layer, after the biases of those
VECTORS = 9
PHASES = 5                                       # barriers a layer
SIZES, ADDRESSES = 17, 20                        # entries of a table


class Plan(NamedTuple):
    """What the step reads and writes. T is the cache's room; `padded` means to whole tiles."""

    L: int                       # the letters of llm/generate/architecture.py
    H: int
    K: int
    D: int
    F: int
    rms: bool
    gated: bool
    half: bool                   # the cache holds float16
    ahead: int                   # bytes that a waiting thread reads ahead at most
    eps: np.float32
    matrices: np.ndarray         # int64 (5L + 1, 6): addresses, bytes, outputs, inputs
    vectors: np.ndarray          # float32: gains and biases, VECTORS a layer, one after another
    places: np.ndarray           # int64: vector i is vectors[places[i]:places[i + 1]], or empty
    cos: np.ndarray              # float32 (T, D/2), or (T, 0) without rotary
    sin: np.ndarray
    k: np.ndarray                # float32 (L, K, T, D): the cache
    v: np.ndarray
    k16: np.ndarray              # the same as uint16, for a cache of float16; else not to be read
    v16: np.ndarray
    x: np.ndarray                # (C,) in: the token's embedding
    qkv: np.ndarray              # padded ((H + 2K)·D,), as the next: shared by all threads
    heads: np.ndarray            # (H·D,)
    branch: np.ndarray           # padded (C,): what is added to the stream next
    up: np.ndarray               # padded (F,)
    gate: np.ndarray
    logits: np.ndarray           # padded (V,) out
    desks: np.ndarray            # float32 (threads, …): each thread's stream, norm and scores
    works: np.ndarray            # uint8 (threads, …): what `prepare` made
    sync: np.ndarray             # int64 (WORDS,): see llm/kernels/barrier.py
    marks: np.ndarray            # int64 (5L + 2,): ticks at the start, after each phase, at the end


def table_of(plan):
    """A plan as int64 (SIZES + ADDRESSES,): what `plan_at` wants. It keeps no array alive."""
    sizes = [plan.L, plan.H, plan.K, plan.D, plan.F, plan.rms, plan.gated, plan.half,
             plan.ahead, np.float32(plan.eps).view(np.int32), plan.vectors.size, plan.k.shape[2],
             plan.cos.shape[1], plan.x.size, plan.logits.size, *map(len, (plan.desks[0],
                                                                          plan.works[0]))]
    return np.array(sizes + [array.ctypes.data for array in plan[10:]], np.int64)


@njit
def floats(where, shape):
    """A float32 array at an address."""
    return carray(pointer(where), shape, np.float32)


@njit
def longs(where, shape):
    """An int64 array at an address."""
    return carray(pointer(where), shape, np.int64)


@njit
def padded(n):
    """n rounded up to whole tiles."""
    return (n + R - 1) // R * R


@njit
def plan_at(where, threads):
    """The plan whose table is at this address."""
    t = longs(where, (SIZES + ADDRESSES,))
    L, H, K, D, F, T, C = t[0], t[1], t[2], t[3], t[4], t[11], t[13]
    a = t[SIZES:]
    return Plan(
        L, H, K, D, F, t[5] != 0, t[6] != 0, t[7] != 0, t[8], np.int32(t[9]).view(np.float32),
        longs(a[0], (5 * L + 1, 6)), floats(a[1], (t[10],)), longs(a[2], (VECTORS * (L + 1) + 1,)),
        floats(a[3], (T, t[12])), floats(a[4], (T, t[12])), floats(a[5], (L, K, T, D)),
        floats(a[6], (L, K, T, D)), carray(pointer(a[7]), (L, K, T, D), np.uint16),
        carray(pointer(a[8]), (L, K, T, D), np.uint16), floats(a[9], (C,)),
        floats(a[10], (padded((H + 2 * K) * D),)), floats(a[11], (H * D,)),
        floats(a[12], (padded(C),)), floats(a[13], (padded(F),)), floats(a[14], (padded(F),)),
        floats(a[15], (t[14],)), floats(a[16], (threads, t[15])),
        carray(pointer(a[17]), (threads, t[16]), np.uint8), longs(a[18], (WORDS,)),
        longs(a[19], (PHASES * L + 2,)))
