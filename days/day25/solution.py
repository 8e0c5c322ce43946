"""Day 25 · Solutions of the exercises."""

import heapq
import unicodedata

from days.day25.exercises import WHITE

SUFFIXES = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def kind(c):
    """The class of a character: L, N, space or other."""
    if c in WHITE:
        return " "
    first = unicodedata.category(c)[0]
    return first if first in "LN" else "other"


def words_of(text):
    """One word after another; each alternative of the rule in its order."""
    words, i = [], 0
    while i < len(text):
        j = end_of_word(text, i)
        words.append(text[i:j])
        i = j
    return words


def end_of_word(text, i):
    """Where the word that starts at i ends."""
    for suffix in SUFFIXES:
        if text.startswith(suffix, i):
            return i + len(suffix)
    j = i + (text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != " ")
    k = j
    while k < len(text) and kind(text[k]) == kind(text[j]):
        k += 1
    if kind(text[j]) == " " and k < len(text) and k > j + 1:
        k -= 1                                   # the last space belongs to the next word
    return k


def merge_word(ids, rank):
    """A heap of (rank, position) over a linked list; stale entries are recognised and dropped."""
    ids, after = list(ids), list(range(1, len(ids) + 1))
    before = list(range(-1, len(ids) - 1))
    heap = [(rank[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in rank]
    heapq.heapify(heap)
    while heap:
        r, i = heapq.heappop(heap)
        j = after[i]
        if ids[i] is None or j >= len(ids) or rank.get((ids[i], ids[j])) != r:
            continue
        ids[i], ids[j], after[i] = 256 + r, None, after[j]
        if after[i] < len(ids):
            before[after[i]] = i
        for left, right in ((before[i], i), (i, after[i])):
            if left >= 0 and right < len(ids) and (ids[left], ids[right]) in rank:
                heapq.heappush(heap, (rank[ids[left], ids[right]], left))
    return [i for i in ids if i is not None]
