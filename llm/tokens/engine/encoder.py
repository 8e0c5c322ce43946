"""Day 25 · From bytes to ids in four passes: split, number the words, merge the new ones, gather.

An `Encoder` keeps the words it has seen, with their ids, so that only a new word is ever merged.
It works in blocks and empties a cache that has grown too large: memory does not grow with the
text beyond the ids. Several threads may use one encoder; each takes a cache of its own.
Leaves out: special tokens and str; see FastBPE.
"""

import numpy as np
from numba import njit

from llm.tokens.engine.heap import find, packed
from llm.tokens.engine.merges import apply, gather
from llm.tokens.engine.split import next_end, table_for, word_ends
from llm.tokens.engine.vocabulary import NONE
from llm.tokens.engine.words import Words, enter, hashed, room, slot_of

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
def short(data, classes, rule, slots, hashes, starts, store, known, base, chars, pair_slots, keys,
          made, tokens, token_starts, ids):
    """The four passes in one over a text (N,) bytes: fills ids (N,); (ids, words known after).

    slots … known are the table of words as in `intern`, base … token_starts are as in `apply`.
    """
    n = i = 0
    while i < len(data):
        j = next_end(data, i, len(data), classes, rule)
        h = hashed(data, i, j)
        at = slot_of(data, i, j, h, slots, hashes, starts, store)
        w = np.int64(slots[at]) - 1
        if w < 0:
            w = known
            known += 1
            enter(data, i, j, h, at, slots, hashes, starts, store, w)
            apply(store, starts, w, known, base, chars, pair_slots, keys, made, tokens,
                  token_starts)
        for t in range(token_starts[w], token_starts[w + 1]):
            ids[n] = tokens[t]
            n += 1
        i = j
    return n, known


class Cache(Words):
    """Words with the ids of each: word w has tokens[token_starts[w]:token_starts[w + 1]].

    given: (data (N,) uint8, ends (W,), ids (W,)) of words that are one token each, whatever merges
    would make of them; they are there from the start.
    """

    def __init__(self, given=None):
        self.given = given
        super().__init__()

    def clear(self):
        super().clear()
        self.tokens = np.empty(1 << 14, dtype=np.int32)
        self.token_starts = np.zeros((1 << 11) + 1, dtype=np.int64)
        if self.given is not None:
            data, ends, ids = self.given
            self.make_room(len(ends), len(data))
            self.tokens = room(self.tokens, len(self.store))
            self.token_starts = room(self.token_starts, len(self.starts))
            self.add(data, 0, ends)
            self.tokens[:len(ids)] = ids
            self.token_starts[:len(ids) + 1] = np.arange(len(ids) + 1)

    def prepare(self, words, size):
        """Room for so many more words and bytes, which become at most as many ids."""
        if self.n > MOST_WORDS or self.size > MOST_BYTES:
            self.clear()
        if self.make_room(words, size):
            self.tokens = room(self.tokens, len(self.store))
            self.token_starts = room(self.token_starts, len(self.starts))


class Encoder:
    """The merge tables of one vocabulary, and the words merged so far."""

    given = None             # what `made_otherwise` returns: words that a new cache holds already

    def __init__(self, base, merges, numbers, whole=(), chars=NONE):
        """base (256,) int32: the id of each byte, or −1; merges (M, 3) int32 by rank; numbers: the
        splitting rule; whole: {bytes: id} of words that are looked up before they are merged;
        chars (C,) int32: the id of each code point that is a piece, or −1.
        """
        self.base, self.chars, self.numbers, self.caches = base, chars, numbers, []
        self.missing = base < 0 if (base < 0).any() else None
        self.slots = np.zeros(1 << max(2 * len(merges), 8).bit_length(), dtype=np.int32)
        self.keys = np.empty(max(len(merges), 1), dtype=np.int64)
        self.made = np.empty(max(len(merges), 1), dtype=np.int32)
        rank_table(merges, self.slots, self.keys, self.made)
        if whole:
            self.given = self.made_otherwise(whole)

    def made_otherwise(self, whole):
        """Those of the words {bytes: id} that merges would not make that id: (data, ends, ids)."""
        def joined(words):
            ends = np.cumsum([*map(len, words)], dtype=np.int64)
            return np.frombuffer(b"".join(words), dtype=np.uint8), ends

        cache, (data, ends) = Cache(), joined(whole)
        cache.prepare(len(ends), len(data))
        cache.add(data, 0, ends)
        self.ids_of_new(cache, 0)
        first, count = cache.token_starts[:cache.n], np.diff(cache.token_starts[:cache.n + 1])
        right = (count == 1) & (cache.tokens[first] == list(whole.values()))
        others = {word: i for (word, i), same in zip(whole.items(), right) if not same}
        return (*joined(others), list(others.values())) if others else None

    def encode_short(self, data):
        """Ids (T,) int32 of one short text, given as bytes.

        A compiled call unpacks its arrays anew, about a microsecond each time: on a short text
        that is most of the work, so here one call does it all.
        """
        if self.missing is not None:
            self.check_bytes(np.frombuffer(data, dtype=np.uint8))
        ids, cache = np.empty(len(data), dtype=np.int32), self.borrow()
        cache.prepare(len(data), len(data))                    # every byte may be a new word
        n, known = short(data, table_for(self.numbers), self.numbers, cache.slots, cache.hashes,
                         cache.starts, cache.store, cache.n, self.base, self.chars, self.slots,
                         self.keys, self.made, cache.tokens, cache.token_starts, ids)
        if known > cache.n:
            cache.n, cache.size = known, int(cache.starts[known])
        self.caches.append(cache)
        return ids[:n]

    def check_bytes(self, data):
        """ValueError if there is a byte in data (N,) uint8 that no id stands for."""
        if self.missing is not None and self.missing[data].any():
            at = int(np.argmax(self.missing[data]))
            raise ValueError(f"this vocabulary has no id for byte {data[at]:#04x} (at byte {at} of "
                             "the text); remove the character, or use another vocabulary")

    def borrow(self):
        """A cache for one call; a new one where another thread has them all."""
        try:
            return self.caches.pop()
        except IndexError:
            return Cache(self.given)

    def encode(self, data, segments):
        """Ids of consecutive texts that end at `segments` (S,) int64 in data (N,) uint8.

        Returns ids (T,) int32 and offsets (S,) int64: text s has the ids offsets[s − 1]:offsets[s].
        """
        self.check_bytes(data)
        cache = self.borrow()
        ids = np.empty(len(data), dtype=np.int32)
        offsets = np.empty(len(segments), dtype=np.int64)
        ends = np.empty(min(len(data), BLOCK), dtype=np.int64)
        totals = np.empty(len(ends) + 1, dtype=np.int64)      # ids up to each word's end
        i = segment = n = done = 0
        while done < len(segments):
            first = i
            m, i, segment = word_ends(data, i, segment, segments, table_for(self.numbers),
                                      self.numbers, ends)
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
        if len(ends):
            cache.prepare(len(ends), int(ends[-1]) - first)
        known = cache.n
        numbers = cache.add(data, first, ends)
        if cache.n > known:
            self.ids_of_new(cache, known)
        return numbers

    def ids_of_new(self, cache, known):
        """Merge the words from number `known` on, into the cache."""
        apply(cache.store, cache.starts, known, cache.n, self.base, self.chars, self.slots,
              self.keys, self.made, cache.tokens, cache.token_starts)
