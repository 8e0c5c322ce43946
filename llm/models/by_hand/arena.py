"""Day 39 · An arena: one block of memory, and the arrays that live in it, each for its own time.

Two arrays that are never alive at the same moment may lie in the same place. `place` takes them
in the order given and puts each as low as it can without touching one that is alive when it is.
No placement needs less than what is alive at the fullest moment. Whether `place` needs no more
than that depends on the order. Left out: a search for the best order, which is NP-hard in general;
buffers.py gives an order that is best for a GPT.
"""

import math
from dataclasses import dataclass

import numpy as np

LINE = 64                                  # bytes: a line of the cache, and a register of AVX-512


@dataclass(frozen=True)
class Buffer:
    """An array to be placed. alive: the moments at which its contents must not be lost."""

    name: str
    shape: tuple
    alive: frozenset
    dtype: type = np.float32

    @property
    def nbytes(self):
        """Its bytes, rounded up to whole lines, so that the next array begins with one."""
        return padded(math.prod(self.shape) * np.dtype(self.dtype).itemsize)


def padded(nbytes):
    """Rounded up to whole lines.

    >>> padded(1), padded(64), padded(65)
    (64, 64, 128)
    """
    return -(-nbytes // LINE) * LINE


def most_alive(buffers):
    """Bytes that are alive at the fullest moment: no placement can do with fewer."""
    moments = frozenset().union(*(b.alive for b in buffers))
    return max(sum(b.nbytes for b in buffers if moment in b.alive) for moment in moments)


def place(buffers):
    """({name: first byte}, bytes in all). No two that are alive at one moment overlap.

    Raises ValueError if two have one name.
    """
    if len({b.name for b in buffers}) < len(buffers):
        raise ValueError("two buffers have the same name: " + ", ".join(b.name for b in buffers))
    placed, offsets = [], {}
    for buffer in buffers:
        rivals = sorted((low, high) for low, high, other in placed if other.alive & buffer.alive)
        start = 0
        for low, high in rivals:
            if low - start >= buffer.nbytes:                          # the gap is wide enough
                break
            start = max(start, high)
        placed.append((start, start + buffer.nbytes, buffer))
        offsets[buffer.name] = start
    return offsets, max((high for _, high, _ in placed), default=0)


class Arena:
    """`nbytes` of memory, zero at first, in one piece that begins at a line of the cache."""

    def __init__(self, nbytes):
        whole = np.zeros(nbytes + LINE, np.uint8)
        start = -whole.ctypes.data % LINE
        self.memory = whole[start:start + nbytes]

    @property
    def nbytes(self):
        """The size of the arena in bytes."""
        return self.memory.nbytes

    def view(self, start, shape, dtype=np.float32):
        """The array of that shape whose first byte is `start`. Nothing is copied.

        Raises ValueError where it would reach over the end.
        """
        end = start + math.prod(shape) * np.dtype(dtype).itemsize
        if start < 0 or end > self.nbytes:
            raise ValueError(f"an array of shape {shape} at byte {start} ends at {end}, and the "
                             f"arena has {self.nbytes} bytes: make a larger one")
        return self.memory[start:end].view(dtype).reshape(shape)
