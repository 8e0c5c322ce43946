"""Day 25 · A table of distinct words: each span of bytes becomes a number, the same one each time.

Text repeats itself: five megabytes of Shakespeare are 1.4 million words, but only 36 thousand
distinct ones. Training counts each word once, encoding merges each word once. The table is open
addressing over 64-bit hashes; a hit compares the bytes too, so it is exact, not merely likely.
Leaves out: deleting single words. A cache that is full is emptied as a whole.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def intern(data, first, ends, slots, hashes, starts, store, n, numbers):
    """Number the words data[first:ends[0]], data[ends[0]:ends[1]], …; returns how many are known.

    slots (2^k,) int32: word + 1, or 0; hashes (cap,) int64; store: the known words' bytes, word w
    at starts[w]:starts[w + 1]; n known before; numbers (M,) int32 is filled. All have room.
    """
    for m in range(len(numbers)):
        last = ends[m]
        h = hashed(data, first, last)
        at = slot_of(data, first, last, h, slots, hashes, starts, store)
        w = np.int64(slots[at]) - 1
        if w < 0:
            w = n
            n += 1
            enter(data, first, last, h, at, slots, hashes, starts, store, w)
        numbers[m] = w
        first = last
    return n


@njit
def enter(data, first, last, h, at, slots, hashes, starts, store, w):
    """Keep a copy of the new word data[first:last] with hash h, as number w, in the slot `at`."""
    slots[at] = w + 1
    hashes[w] = h
    begin = starts[w]
    for i in range(last - first):
        store[begin + i] = data[first + i]
    starts[w + 1] = begin + last - first


@njit
def hashed(data, first, last):
    """64 bits that depend on every byte of a span: FNV-1a, modulo 2^64."""
    h = np.int64(last - first)
    for i in range(first, last):
        h = (h ^ data[i]) * 1099511628211
    return h ^ (h >> 29)


@njit
def slot_of(data, first, last, h, slots, hashes, starts, store):
    """The slot of the word data[first:last] with hash h, or the empty slot where it would go."""
    mask = len(slots) - 1
    at = h & mask
    while slots[at]:
        w = np.int64(slots[at]) - 1
        if hashes[w] == h and same(data, first, last, store, starts[w], starts[w + 1]):
            break
        at = (at + 1) & mask
    return at


@njit
def same(data, first, last, store, begin, end):
    """Are two spans equal, byte by byte?"""
    if last - first != end - begin:
        return False
    for i in range(last - first):  # noqa: SIM110
        if data[first + i] != store[begin + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def rehash(hashes, n, slots):
    """Enter words 0 … n − 1 into empty slots."""
    mask = len(slots) - 1
    for w in range(n):
        at = hashes[w] & mask
        while slots[at]:
            at = (at + 1) & mask
        slots[at] = w + 1


def room(array, size):
    """The array itself if it has `size` entries, else a copy at least twice as long."""
    if len(array) >= size:
        return array
    longer = np.empty(max(size, 2 * len(array)), dtype=array.dtype)
    longer[:len(array)] = array
    return longer


class Words:
    """Distinct words and their bytes. Word w of n is store[starts[w]:starts[w + 1]]."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget all words, and give the memory back."""
        self.n = self.size = 0                                 # words, and bytes of all words
        self.slots = np.zeros(1 << 12, dtype=np.int32)
        self.hashes = np.empty(1 << 11, dtype=np.int64)
        self.starts = np.zeros((1 << 11) + 1, dtype=np.int64)
        self.store = np.empty(1 << 14, dtype=np.uint8)

    def add(self, data, first, ends):
        """The number of each word between `first` and the `ends`: (M,) int32."""
        numbers = np.empty(len(ends), dtype=np.int32)
        if not len(ends):
            return numbers
        self.make_room(len(ends), int(ends[-1]) - first)
        n = intern(data, first, ends, self.slots, self.hashes, self.starts, self.store, self.n,
                   numbers)
        if n > self.n:
            self.n, self.size = n, int(self.starts[n])
        return numbers

    def make_room(self, words, size):
        """For so many more words and bytes; was there too little?

        Slots stay at most half full: short probes.
        """
        words, size = words + self.n, size + self.size
        if words <= len(self.hashes) and size <= len(self.store):
            return False
        self.hashes = room(self.hashes, words)
        self.starts = room(self.starts, len(self.hashes) + 1)
        self.store = room(self.store, size)
        if len(self.slots) < 2 * len(self.hashes):
            self.slots = np.zeros(1 << (2 * len(self.hashes) - 1).bit_length(), dtype=np.int32)
            rehash(self.hashes, self.n, self.slots)
        return True
