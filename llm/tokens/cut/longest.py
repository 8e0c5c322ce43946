"""Day 26 · Longest match first: how WordPiece cuts a word, and day 25's encoder around it.

From the start of the word take the longest piece there is; go on behind it with the longest piece
that may continue a word; and so to the end. If it ever sticks, the whole word is unknown. A word's
ids depend on the word alone, so each distinct word is cut once and remembered.
Leaves out: special tokens and str; see WordPiece. The linear-time matching of Song et al. 2021:
words have at most a hundred characters, so looking ahead costs little.
"""

import numpy as np
from numba import njit

from llm.tokens.cut.bert import BLANK, class_table, word_ends
from llm.tokens.engine.classes import step
from llm.tokens.engine.encoder import Encoder
from llm.tokens.engine.merges import gather
from llm.tokens.engine.trie import matches, trie_of


@njit(cache=True, nogil=True)
def cut_words(store, starts, first, last, classes, begin, inside, unknown, longest, tokens,
              token_starts):
    """Cut the words first … last − 1 of `store`; the ids of word w go to
    tokens[token_starts[w]:token_starts[w + 1]], none where the word is white space.

    begin, inside: the tries of the pieces that begin a word and that continue one; a word of more
    than `longest` characters is unknown.
    """
    for w in range(first, last):
        i, end, out, trie = starts[w], starts[w + 1], token_starts[w], begin
        if step(store, i, end, classes)[0] == BLANK:
            i = end
        elif characters(store, i, end) > longest:
            tokens[out] = unknown
            i, out = end, out + 1
        while i < end:
            piece, i = longest_match(store, i, end, trie)
            if piece < 0:                                  # no part of the word is kept
                out, piece, i = token_starts[w], unknown, end
            tokens[out] = piece
            out, trie = out + 1, inside
        token_starts[w + 1] = out


@njit
def longest_match(data, i, end, trie):
    """(the longest piece that starts at byte i of data[:end], where it ends), or (−1, i)."""
    longest, last = -1, i
    for piece, j in matches(data, i, end, trie, -1):       # from the shortest on
        if piece >= 0:
            longest, last = piece, j
    return longest, last


@njit
def characters(data, begin, end):
    """How many code points data[begin:end] has: bytes that don't continue one."""
    n = 0
    for i in range(begin, end):
        n += data[i] & 0xC0 != 0x80
    return n


class Matcher(Encoder):
    """Day 25's encoder with BERT's words, and longest match where that one merges."""

    def __init__(self, begin, inside, unknown, longest):
        """begin, inside: a list by id of the bytes a piece matches there, None where it doesn't."""
        self.begin = trie_of([piece or b"" for piece in begin])     # b"": no piece
        self.inside = trie_of([piece or b"" for piece in inside])
        self.unknown, self.longest, self.caches = unknown, longest, []

    def encode(self, data, segments):
        """Ids of consecutive normalised texts that end at `segments` (S,) int64 in data (N,) uint8.

        Returns ids (T,) int32 and offsets (S,) int64: text s has the ids offsets[s − 1]:offsets[s].
        """
        ends, cache = word_ends(data, segments), self.borrow()
        ids = np.empty(len(data), dtype=np.int32)
        totals = np.zeros(len(ends) + 1, dtype=np.int64)   # ids up to each word's end
        n = gather(self.look_up(cache, data, 0, ends), cache.tokens, cache.token_starts, ids, 0,
                   totals[1:])
        self.caches.append(cache)
        return ids[:n].copy(), totals[np.searchsorted(ends, segments, side="right")]

    def ids_of_new(self, cache, known):
        """Cut the words from number `known` on, into the cache."""
        cut_words(cache.store, cache.starts, known, cache.n, class_table(), self.begin,
                  self.inside, self.unknown, self.longest, cache.tokens, cache.token_starts)
