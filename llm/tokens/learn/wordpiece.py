"""Day 26 · Learning word pieces: merge the pair that is most surprising, not the most frequent.

Each distinct word is kept once, in one long row of symbols. A round scores every pair, merges the
best one in a single pass over the row, and corrects the counts of the pairs beside each merge.
No heap as on day 25: merging (a, b) makes a and b rarer, which *raises* the scores of all their
other pairs, and a heap can only drop entries whose score has fallen.
Leaves out: threads, and Hugging Face's limits on the alphabet and on the length of a piece.
"""

import math

import numpy as np
from numba import njit

from llm.tokens.cut.bert import ALONE, BLANK, CHINESE, class_table, code_table, word_ends
from llm.tokens.engine.heap import find, packed, twice
from llm.tokens.engine.words import Words, room

SCORES = {"ratio": 0, "gain": 1, "frequency": 2}
BORDER, HOLE = -1, -2                      # in the row: between words; where a symbol was merged


def count_words(texts, bert):
    """{word: how often} over all texts, which are taken one at a time."""
    words, counts = Words(), np.zeros(1 << 11, dtype=np.int64)
    for text in texts:
        data = np.frombuffer(bert.prepare(text), dtype=np.uint8)
        numbers = words.add(data, 0, word_ends(data, np.array([len(data)], dtype=np.int64)))
        known = len(counts)
        counts = room(counts, words.n)
        counts[known:] = 0
        np.add.at(counts, numbers, 1)
    spans = [words.store[a:b].tobytes().decode()
             for a, b in zip(words.starts[:words.n], words.starts[1:words.n + 1])]
    return {word: n for word, n in zip(spans, counts.tolist()) if
            class_table()[ord(word[0])] != BLANK}


def alphabet(words, prefix):
    """Every character, and its twin with the prefix unless it always is a word by itself.

    So no word made of characters that were seen is unknown.
    """
    every = sorted(set("".join(words)))
    return every + [prefix + c for c in every if not code_table()[ord(c)] & (ALONE | CHINESE)]


def learn_pieces(words, pieces, vocab_size, min_count, score, prefix):
    """Extend `pieces`, which holds the alphabet, to vocab_size, or until no pair is worth it.

    words {str: count}; score: "ratio" n_ab/(n_a n_b), "gain" of the log likelihood, "frequency".
    Of equal scores the smallest ids win. A pair seen fewer than min_count times is not considered.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}
    rows = [[*(ids[prefix * (i > 0) + c] for i, c in enumerate(word)), BORDER] for word in words]
    symbols = np.array([BORDER, *(i for row in rows for i in row)], dtype=np.int32)
    weights = np.repeat([1, *words.values()], [1, *map(len, rows)])
    counts = np.zeros(vocab_size, dtype=np.int64)
    np.add.at(counts, symbols[symbols >= 0], weights[symbols >= 0])
    slots, keys, pairs, used = count_pairs(symbols, weights)
    while len(pieces) < vocab_size:
        best = best_pair(keys, pairs, used[0], counts, min_count, SCORES[score])
        if best < 0:
            break
        a, b = int(keys[best]) >> 32, int(keys[best]) & 0xFFFFFFFF
        piece = pieces[a] + pieces[b].removeprefix(prefix)
        if piece not in ids:             # else another pair has made it: both become one piece
            ids[piece] = len(pieces)
            pieces.append(piece)
        slots = merge(symbols, weights, counts, slots, keys, pairs, used, a, b, ids[piece])
        if 2 * np.count_nonzero(symbols == HOLE) > len(symbols):
            kept = symbols != HOLE
            symbols, weights = symbols[kept], weights[kept]
    return pieces


@njit
def add(slots, keys, pairs, used, a, b, weight):
    """Count the pair (a, b) `weight` times more; a BORDER on either side is no pair."""
    if a < 0 or b < 0:
        return
    key = packed(a, b)
    at = find(slots, keys, key)
    slot = np.int64(slots[at]) - 1
    if slot < 0:
        slot = used[0]
        used[0] += 1
        slots[at] = slot + 1
        keys[slot], pairs[slot] = key, 0
    pairs[slot] += weight


@njit(cache=True, nogil=True)
def count_pairs(symbols, weights):
    """The table of pairs: slots and keys as `find` has them, their counts, and how many."""
    most = 3 * len(symbols) + 1          # a merge makes two pairs and uses one symbol up
    slots, used = np.zeros(1 << 14, np.int32), np.zeros(1, np.int64)
    keys, pairs = np.empty(most, np.int64), np.empty(most, np.int64)
    for i in range(len(symbols) - 1):
        if 2 * used[0] + 2 >= len(slots):
            slots = twice(slots, keys, used[0])
        add(slots, keys, pairs, used, symbols[i], symbols[i + 1], weights[i])
    return slots, keys, pairs, used


@njit
def f(n):
    """n log n, which is 0 at 0."""
    return n * math.log(n) if n > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def best_pair(keys, pairs, used, counts, min_count, score):
    """The slot of the pair with the highest score; −1 where none is frequent and gains anything."""
    best, highest, total = -1, 0.0, counts.sum()
    most = math.log(total) + 1                                # no gain is more, per occurrence
    for slot in range(used):
        m = pairs[slot]
        if m < min_count or (score == 1 and m * most < highest):
            continue
        a, b = keys[slot] >> 32, keys[slot] & 0xFFFFFFFF
        if score == 0:
            value = m / (counts[a] * counts[b])
        elif score == 1:
            value = gain(m, counts[a], counts[b], total, a == b)
        else:
            value = float(m)
        if value > highest or (value == highest and keys[slot] < keys[best]):
            best, highest = slot, value
    return best


@njit
def gain(m, a, b, total, same):
    """By how much m merges raise Σ n log(n / total); a and b are counts of the parts. Nats."""
    if same:                                                  # places of one pair may overlap
        m = min(m, a // 2)
        parts = f(a - 2 * m) - f(a)
    else:
        parts = (f(a - m) - f(a)) + (f(b - m) - f(b))         # the same for (b, a), to the bit
    return f(m) + parts - f(total - m) + f(total)


@njit
def beside(symbols, i, way):
    """The place of the nearest symbol or BORDER to the right (way 1) or left (−1) of place i."""
    i += way
    while symbols[i] == HOLE:
        i += way
    return i


@njit(cache=True, nogil=True)
def merge(symbols, weights, counts, slots, keys, pairs, used, a, b, new):
    """Make `new` of every a, b in the row, in place; returns slots, which may have grown."""
    for i in range(len(symbols)):
        if symbols[i] != a:
            continue
        j = beside(symbols, i, 1)
        if symbols[j] != b:
            continue
        before, after = symbols[beside(symbols, i, -1)], symbols[beside(symbols, j, 1)]
        symbols[i], symbols[j], weight = new, HOLE, weights[i]
        if 2 * used[0] + 4 >= len(slots):
            slots = twice(slots, keys, used[0])
        add(slots, keys, pairs, used, a, b, -weight)
        add(slots, keys, pairs, used, before, a, -weight)
        add(slots, keys, pairs, used, b, after, -weight)
        add(slots, keys, pairs, used, before, new, weight)
        add(slots, keys, pairs, used, new, after, weight)
        counts[a] -= weight
        counts[b] -= weight
        counts[new] += weight
    return slots
