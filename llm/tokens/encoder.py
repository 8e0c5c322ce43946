"""Day 25 · From bytes to ids in four passes: split, number the words, merge the new ones, gather.

An `Encoder` keeps the words it has seen, with their ids, so that only a new word is ever merged.
It works in blocks and empties a cache that has grown too large: memory does not grow with the
text beyond the ids. Several threads may use one encoder; each takes a cache of its own.
Leaves out: special tokens and str; see FastBPE.
"""

import numpy as np
from numba import njit

from llm.tokens.heap import find, packed
from llm.tokens.merges import apply, gather
from llm.tokens.split import class_table, next_end, rule_numbers, word_ends
from llm.tokens.words import Words, hashed, room, slot_of

BLOCK = 1 << 15          # words per block
MOST_WORDS = 1 << 18     # a cache with more words, or more bytes, is emptied
MOST_BYTES = 1 << 23


@njit(cache=True)
def rank_table(merges, slots, keys, made):
    """Enter merge r = (a, b, new) of merges (M, 3) under packed(a, b), with rank r."""
    for r in range(len(merges)):
        keys[r], made[r] = packed(merges[r, 0], merges[r, 1]), merges[r, 2]
        slots[find(slots, keys, keys[r])] = r + 1


@njit(cache=True, nogil=True)
def all_known(data, classes, rule, slots, hashes, starts, store, tokens, token_starts, ids):
    """The four passes in one, for a text (N,) bytes whose words are all known: fills ids (N,).

    Returns how many ids there are, or −1 at the first word that is new.
    """
    n = i = 0
    while i < len(data):
        j = next_end(data, i, len(data), classes, rule)
        w = np.int64(slots[slot_of(data, i, j, hashed(data, i, j), slots, hashes, starts,
                                   store)]) - 1
        if w < 0:
            return -1
        for t in range(token_starts[w], token_starts[w + 1]):
            ids[n] = tokens[t]
            n += 1
        i = j
    return n


class Cache(Words):
    """Words with the ids of each: word w has tokens[token_starts[w]:token_starts[w + 1]]."""

    def clear(self):
        super().clear()
        self.tokens = np.empty(1 << 14, dtype=np.int32)
        self.token_starts = np.zeros((1 << 11) + 1, dtype=np.int64)


class Encoder:
    """The merge tables of one vocabulary, and the words merged so far."""

    def __init__(self, base, merges, rule):
        """base (256,) int32: the id of each byte, or −1; merges (M, 3) int32 by rank."""
        self.base, self.numbers, self.caches = base, rule_numbers(rule), []
        self.missing = base < 0 if (base < 0).any() else None
        self.slots = np.zeros(1 << max(2 * len(merges), 8).bit_length(), dtype=np.int32)
        self.keys = np.empty(max(len(merges), 1), dtype=np.int64)
        self.made = np.empty(max(len(merges), 1), dtype=np.int32)
        rank_table(merges, self.slots, self.keys, self.made)

    def encode_short(self, data):
        """Ids (T,) int32 of one short text, given as bytes.

        A compiled call unpacks its arrays anew, about a microsecond each time: on a short text
        that is most of the work. So one call tries all, and gives up at a word that is new.
        """
        ids, cache = np.empty(len(data), dtype=np.int32), self.borrow()
        n = all_known(data, class_table(), self.numbers, cache.slots, cache.hashes, cache.starts,
                      cache.store, cache.tokens, cache.token_starts, ids)
        self.caches.append(cache)
        if n >= 0:
            return ids[:n]
        array = np.frombuffer(data, dtype=np.uint8)
        return self.encode(array, np.array([len(array)], dtype=np.int64))[0]

    def borrow(self):
        """A cache for one call; a new one where another thread has them all."""
        try:
            return self.caches.pop()
        except IndexError:
            return Cache()

    def encode(self, data, segments):
        """Ids of consecutive texts that end at `segments` (S,) int64 in data (N,) uint8.

        Returns ids (T,) int32 and offsets (S,) int64: text s has the ids offsets[s − 1]:offsets[s].
        """
        if self.missing is not None and self.missing[data].any():
            at = int(np.argmax(self.missing[data]))
            raise ValueError(f"this vocabulary has no id for byte {data[at]:#04x} (at byte {at} of "
                             "the text); remove the character, or use another vocabulary")
        cache = self.borrow()
        ids = np.empty(len(data), dtype=np.int32)
        offsets = np.empty(len(segments), dtype=np.int64)
        ends = np.empty(min(len(data), BLOCK), dtype=np.int64)
        totals = np.empty(len(ends) + 1, dtype=np.int64)      # ids up to each word's end
        i = segment = n = done = 0
        while done < len(segments):
            first = i
            m, i, segment = word_ends(data, i, segment, segments, class_table(), self.numbers,
                                      ends)
            totals[0] = n
            n = gather(self.look_up(cache, data, first, ends[:m]), cache.tokens,
                       cache.token_starts, ids, n, totals[1:])
            if segment == len(segments) == 1:                 # the common case, without a search
                offsets[0], done = n, 1
                continue
            until = np.searchsorted(segments, i, side="right") if m else len(segments)
            offsets[done:until] = totals[np.searchsorted(ends[:m], segments[done:until], "right")]
            done = until
        self.caches.append(cache)
        return ids[:n].copy(), offsets

    def look_up(self, cache, data, first, ends):
        """The number of each word; the ids of words that are new are found and remembered."""
        if cache.n > MOST_WORDS or cache.size > MOST_BYTES:
            cache.clear()
        known = cache.n
        numbers = cache.add(data, first, ends)
        if cache.n > known:
            cache.tokens = room(cache.tokens, cache.size)
            cache.token_starts = room(cache.token_starts, cache.n + 1)
            self.ids_of_new(cache, known)
        return numbers

    def ids_of_new(self, cache, known):
        """Merge the words from number `known` on, into the cache."""
        apply(cache.store, cache.starts, known, cache.n, self.base, self.slots, self.keys,
              self.made, cache.tokens, cache.token_starts)
