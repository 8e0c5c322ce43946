"""Day 25 · Training: count each distinct word once, then run the merge loop over the counts.

Texts are taken one at a time and only distinct words are kept, so memory follows the number of
distinct words and not the length of the text.
Leaves out: threads; splitting and counting five megabytes takes a tenth of a second on one.
"""

import numpy as np

from llm.tokens.bpe import to_bytes
from llm.tokens.engine.merges import learn
from llm.tokens.engine.split import rule_numbers, table_for, word_ends
from llm.tokens.engine.words import Words, room

BLOCK = 1 << 16          # words per block


def count_words(texts, rule):
    """Distinct words of all texts, and how often each occurs: Words, (n,) int64."""
    words, counts, cut = Words(), np.zeros(1 << 11, dtype=np.int64), rule_numbers(rule)
    for text in texts:
        data = np.frombuffer(to_bytes(text), dtype=np.uint8)
        segments = np.array([len(data)], dtype=np.int64)
        ends = np.empty(min(len(data), BLOCK), dtype=np.int64)
        i = segment = 0
        while i < len(data):
            first, known = i, words.n
            m, i, segment = word_ends(data, i, segment, segments, table_for(cut), cut, ends)
            numbers = words.add(data, first, ends[:m])
            counts = room(counts, words.n)
            counts[known:words.n] = 0
            counts[:words.n] += np.bincount(numbers, minlength=words.n)
    return words, counts[:words.n]


def learn_merges(texts, wanted, rule, min_count, order):
    """Up to `wanted` pairs of ids, (M, 2) int32, ids 0–255 being the bytes in `order`.

    No piece is made twice: day 24 proves it, for one text and so for words.
    """
    words, counts = count_words(texts, rule)
    ids = np.empty(256, dtype=np.int32)
    ids[list(order)] = np.arange(256)
    symbols = ids[words.store[:words.size]]
    return learn(symbols, words.starts[:words.n + 1], counts, 256, wanted, min_count)
