"""Day 26 · From text to ids with a Unigram model: find the words, cut each new one, gather.

As day 25's Encoder, with Viterbi in place of merges: the ids of a word depend on the word alone, so
each distinct word is cut once and remembered. Inside, the character ▁ is a plain space, one byte
instead of three.
Leaves out: special tokens and files; see Unigram.
"""

import numpy as np

from llm.tokens.bpe import to_bytes
from llm.tokens.cut.lattice import expect
from llm.tokens.cut.paths import SPACE, sample, segment
from llm.tokens.engine.encoder import MOST_BYTES, MOST_WORDS, Cache
from llm.tokens.engine.merges import gather
from llm.tokens.engine.split import rule_numbers, table_for, word_ends
from llm.tokens.engine.words import room
from llm.tokens.files.llama import META

BLOCK = 1 << 15          # words per block
MOST = 3                 # ids that one byte can become: a space that is no piece is ▁, three bytes


def words_of(texts, rule):
    """A list of str -> data (N,) uint8, ends (W,) int64 of its words and ends (S,) of its texts.

    data is UTF-8 with ▁ as a space. "spaces" and "whole" take ▁ for a space; to day 25's other
    rules it is a symbol, as it is to Hugging Face, which cuts first and replaces spaces later.
    """
    parts = [to_bytes(text) for text in texts]
    met = any(META in text for text in texts)
    if met and rule in ("spaces", "whole"):
        parts = [part.replace(META.encode(), b" ") for part in parts]
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    segments = np.cumsum([*map(len, parts)], dtype=np.int64)
    ends = ends_of(data, segments, rule)
    if met and rule not in ("spaces", "whole"):
        at = np.flatnonzero((data[:-2] == 0xE2) & (data[1:-1] == 0x96) & (data[2:] == 0x81))
        keep = np.ones(len(data), dtype=bool)
        keep[at + 1] = keep[at + 2] = False
        data = data.copy()
        data[at] = SPACE
        place = np.append(0, np.cumsum(keep))
        data, ends, segments = data[keep], place[ends], place[segments]
    return data, ends, segments


def ends_of(data, segments, rule):
    """Where each word of data (N,) uint8 ends, (W,) int64; none crosses the end of a segment."""
    if rule == "spaces":
        border = np.append(data == SPACE, True)            # a space begins a word
        border[segments] = True
        border[0] = False
        return np.flatnonzero(border)
    ends = np.empty(len(data), dtype=np.int64)
    numbers = rule_numbers(rule)
    n, _, _ = word_ends(data, 0, 0, segments, table_for(numbers), numbers, ends)
    return ends[:n]


class Segmenter:
    """A trie of pieces with their scores, and the words cut so far."""

    def __init__(self, trie, scores, rule, unk, byte_ids, silent):
        """scores (V + 1,) float64: log probabilities, the last one of an unknown character;
        unk: the id of <unk>, or −1; byte_ids (256,) int32: the id of each byte's piece, or −1;
        silent: ids that stand in no random cut, see `weights`."""
        self.trie, self.scores, self.rule = trie, scores, rule
        self.unk, self.byte_ids, self.caches = unk, byte_ids, []
        self.silent = np.array(silent, dtype=np.int64)

    def borrow(self):
        """A cache for one call; a new one where another thread has them all."""
        try:
            return self.caches.pop()
        except IndexError:
            return Cache()

    def encode(self, texts):
        """A list of str -> the ids (T,) int32 of each; −1 where `unk` is −1 and nothing fits."""
        data, ends, segments = words_of(texts, self.rule)
        cache, first, n = self.borrow(), 0, 0
        ids = np.empty(MOST * len(data), dtype=np.int32)   # memory that is not touched is free
        totals = np.zeros(len(ends) + 1, dtype=np.int64)   # ids up to each word's end
        for k in range(0, len(ends), BLOCK):
            block = ends[k:k + BLOCK]
            numbers = self.look_up(cache, data, first, block)
            n = gather(numbers, cache.tokens, cache.token_starts, ids, n, totals[k + 1:])
            first = int(block[-1])
        self.caches.append(cache)
        ids, stops = ids[:n].copy(), totals[np.searchsorted(ends, segments, "right")].tolist()
        return [ids[a:b] for a, b in zip([0, *stops], stops)]

    def look_up(self, cache, data, first, ends):
        """The number of each word; words that are new are cut and remembered."""
        if cache.n > MOST_WORDS or cache.size > MOST_BYTES:
            cache.clear()
        known = cache.n
        numbers = cache.add(data, first, ends)
        if cache.n > known:
            cache.tokens = room(cache.tokens, MOST * cache.size)
            cache.token_starts = room(cache.token_starts, cache.n + 1)
            segment(cache.store, cache.starts, known, cache.n, self.trie, self.scores, self.unk,
                    self.byte_ids, cache.tokens, cache.token_starts)
        return numbers

    def sample(self, text, alpha, rng):
        """The ids of one segmentation, drawn in proportion to its probability to the alpha."""
        data, ends, _ = words_of([text], self.rule)
        ids = np.empty(MOST * len(data), dtype=np.int32)
        n = sample(data, np.append(0, ends), self.trie, self.weights(alpha), self.unk,
                   self.byte_ids, rng.random(len(data)), ids)
        return ids[:n].copy()

    def log_likelihood(self, text):
        """The log of the text's probability, summed over all its segmentations, in nats."""
        data, ends, _ = words_of([text], self.rule)
        return expect(data, np.append(0, ends), 0, len(ends), np.ones(len(ends), dtype=np.int64),
                      self.trie, self.weights(1.0), np.zeros(len(self.scores)))

    def weights(self, alpha):
        """alpha times the scores, but a text that spells <0x41> or <unk> is no such piece here."""
        weights = alpha * self.scores
        weights[self.silent] = -np.inf
        return weights
