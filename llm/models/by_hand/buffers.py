"""Day 39 · Which arrays a GPT's step needs, and from when to when.

The moments of a step, for L blocks, are numbered

    attention of block i: 2i     feed-forward of block i: 2i + 1     head and loss: 2L
    and back: feed-forward of block i: 4L − 2i − 1,     attention of block i: 4L − 2i

so the way back is the way there, mirrored at 2L. Left out: dropout, and gradient accumulation.
"""

from types import SimpleNamespace

import numpy as np

from llm.models.by_hand.arena import Buffer, padded, place


def activations(config, B, T, dtype=np.float32):
    """The Buffers for B sequences of T tokens; N = BT rows."""
    C, H, L, V, N = config.C, config.H, config.L, config.V, B * T
    head = 2 * L
    found = []

    def add(name, shape, alive, kind=dtype):
        found.append(Buffer(name, shape, frozenset(alive), kind))

    add("h", (N, C), range(2 * head + 1))                         # of a norm; then its gradient
    add("nowhere", (C,), range(2 * head + 1))                     # sums that nobody wants
    for name in ("ids", "targets"):
        add(name, (N,), range(2 * head + 1), np.int64)
    for i in range(L):
        mix, think = 2 * i, 2 * i + 1
        back = 4 * L - think, 4 * L - mix                         # of `think`, of `mix`
        for name in ("mean1", "rstd1", "mean2", "rstd2"):
            add(f"{i}.{name}", (N,), range(max(mix - 1, 0), back[1] + 1))
        add(f"{i}.x", (N, C), range(max(mix - 1, 0), back[1] + 1))
        add(f"{i}.qkv", (N, 3 * C), range(mix, back[1] + 1))
        add(f"{i}.weights", (B, H, T, T), range(mix, back[1] + 1))
        add(f"{i}.merged", (N, C), range(mix, back[1] + 1))
        add(f"{i}.mid", (N, C), range(mix, back[0] + 1))
        add(f"{i}.up", (N, 4 * C), range(think, back[0] + 1))
    for name in ("mean1", "rstd1"):
        add(f"{L}.{name}", (N,), (head - 1, head))
    add(f"{L}.x", (N, C), (head - 1, head))
    add("logits", (N, V), (head,))                                # then their gradient
    add("bent", (N, 4 * C), range(1, head, 2))                    # by GELU
    add("dup", (N, 4 * C), range(head + 1, 2 * head, 2))
    add("dqkv", (N, 3 * C), range(head + 2, 2 * head + 1, 2))
    add("dweights", (B, H, T, T), range(head + 2, 2 * head + 1, 2))
    add("dx", (N, C), range(head, 2 * head + 1))                  # the gradient of the stream
    return found


def count_bytes(config, B, T, itemsize=4):
    """What `activations` take: all that is kept for the way back, and the fullest moment.

    A block keeps 10C + HT + 4 numbers a token; ids and targets are 8 bytes each. On top come 2C at
    the fullest moment between the head and the first step back, whichever is larger there.
    """
    C, H, L, V, N = config.C, config.H, config.L, config.V, B * T

    def size(*numbers):
        return sum(padded(itemsize * N * n) for n in numbers)

    kept = L * (size(C, 3 * C, H * T, C, C, 4 * C) + 4 * size(1))
    whole = kept + size(C) + padded(itemsize * C) + 2 * padded(8 * N)
    moments = (size(C, 4 * C) + 2 * size(1),                     # the last feed-forward: x, bent
               size(C, C, V) + 2 * size(1),                      # the head: x, dx, logits
               size(C, 4 * C),                                   # back: dx, dup
               size(C, 3 * C, H * T) - size(4 * C, C))           # back: dx, dqkv, dweights
    return whole + max(moments)


def views(arena, start, buffers, config, B, T):
    """The arrays under the names that text.py uses, for buffers placed from byte `start` on."""
    offsets, _ = place(buffers)
    H, D, L = config.H, config.C // config.H, config.L
    found = {b.name: arena.view(start + offsets[b.name], b.shape, b.dtype) for b in buffers}
    parts = [SimpleNamespace() for _ in range(L + 1)]
    s = SimpleNamespace(parts=parts)
    for name, array in found.items():
        block, _, own = name.rpartition(".")
        setattr(parts[int(block)] if block else s, own, array)

    def heads(array, part=0):                                     # (N, …C) seen as (B, H, T, D)
        whole = array.reshape(B, T, -1, H, D)
        return whole[:, :, part].transpose(0, 2, 1, 3)

    for k in parts[:L]:
        k.q, k.k, k.v = (heads(k.qkv, j) for j in range(3))
        k.mixed = heads(k.merged)
    s.dq, s.dk, s.dv = (heads(s.dqkv, j) for j in range(3))
    s.dmixed = heads(s.h)
    return s
