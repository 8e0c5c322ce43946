"""Day 25 · A priority queue and a hash table over plain arrays, for use inside Numba kernels.

The heap holds pairs of numbers (major, minor) and gives back the smallest. The table maps a packed
pair of ids to a slot number. Both are used by training (the most frequent pair) and by encoding
(the pair learned first). Leaves out: deleting and lowering keys; the users drop stale entries.
Numba's cache does not see an edit in this file: after one, delete the `__pycache__` folders.
"""

import numpy as np
from numba import njit


@njit
def push(heap, n, major, minor):
    """Add (major, minor) to the n entries of heap (cap, 2) int64; returns n + 1. O(log n)."""
    i = n
    while i:
        up = (i - 1) >> 1
        if heap[up, 0] < major or (heap[up, 0] == major and heap[up, 1] <= minor):
            break
        heap[i, 0], heap[i, 1] = heap[up, 0], heap[up, 1]
        i = up
    heap[i, 0], heap[i, 1] = major, minor
    return n + 1


@njit
def pop(heap, n):
    """Take the smallest entry away; returns (n − 1, its major, its minor). O(log n)."""
    n -= 1
    least_major, least_minor = heap[0, 0], heap[0, 1]
    major, minor = heap[n, 0], heap[n, 1]
    i, down = 0, 1
    while down < n:
        right = down + 1
        if right < n and (heap[right, 0] < heap[down, 0] or (
                heap[right, 0] == heap[down, 0] and heap[right, 1] < heap[down, 1])):
            down = right
        if major < heap[down, 0] or (major == heap[down, 0] and minor <= heap[down, 1]):
            break
        heap[i, 0], heap[i, 1] = heap[down, 0], heap[down, 1]
        i, down = down, 2 * down + 1
    heap[i, 0], heap[i, 1] = major, minor
    return n, least_major, least_minor


@njit
def packed(a, b):
    """Two ids as one number: a in the high 32 bits, so that numbers sort as pairs do."""
    return np.int64(a) << 32 | np.int64(b)


@njit
def find(slots, keys, key):
    """Where `key` is in slots (2^k,) int32, or the empty place where it belongs.

    A place holds slot + 1, or 0 if empty; keys[slot] is the key. Never more than half are full.
    """
    mask = len(slots) - 1
    h = key * -7046029254386353131                     # 2^64 / golden ratio, Knuth's multiplier
    at = (h ^ (h >> 32)) & mask
    while slots[at] and keys[slots[at] - 1] != key:
        at = (at + 1) & mask
    return at


@njit
def twice(slots, keys, n):
    """A table twice as large with the first n keys in it."""
    wider = np.zeros(2 * len(slots), np.int32)
    for slot in range(n):
        wider[find(wider, keys, keys[slot])] = slot + 1
    return wider
