"""Day 26 · The seed of a Unigram vocabulary: all repeated substrings, by a suffix array.

A suffix array lists all places of a text in the alphabetic order of what follows them. Equal
substrings begin at neighbours in it, so a run of neighbours that agree on d characters is one
substring of length d, and the weights of the run add up to its count. Sorting by the first 16
characters takes four rounds of one sort each (Manber and Myers 1990).
Leaves out: substrings that are always followed by the same character; the longer one counts.
"""

import numpy as np
from numba import njit


def suffix_order(symbols, rest, longest):
    """The places (N,) sorted by the next `longest` symbols, (N,) int64; a word's end comes first.

    symbols (N,) are the characters of all words; rest (N,): how many of its word are left there.
    O(N log N log longest).
    """
    rank, k = np.unique(symbols, return_inverse=True)[1] + 1, 1
    while k < longest:                                     # ranks of k symbols give those of 2k
        ahead = np.zeros_like(rank)
        ahead[:-k] = np.where(rest[:-k] > k, rank[k:], 0)
        rank = np.unique(rank * (len(rank) + 1) + ahead, return_inverse=True)[1] + 1
        k *= 2
    return np.argsort(rank, kind="stable")


def common_prefix(symbols, rest, order, longest):
    """How many symbols each place of `order` shares with the next one there: (N,), the last 0."""
    here, there = order[:-1], order[1:]
    shared = np.zeros(len(order), dtype=np.int64)
    agree = np.ones(len(here), dtype=bool)
    for d in range(longest):
        agree &= rest[here] > d              # then there, too: the end of a word comes first
        agree[agree] = symbols[here[agree] + d] == symbols[there[agree] + d]
        shared[:-1] += agree
    return shared


@njit(cache=True)
def runs(order, shared, rest, weights, longest, least, places, lengths, counts):
    """Every substring of two or more symbols that occurs `least` times; returns how many.

    A stack holds the runs that are still open, each deeper than the one below. Where the next
    neighbour shares h symbols, all runs deeper than h end.
    """
    depth, left = np.zeros(longest + 2, np.int64), np.zeros(longest + 2, np.int64)
    total = np.zeros(len(order) + 1, np.int64)             # weight of the places before r
    for r in range(len(order)):
        total[r + 1] = total[r] + weights[order[r]]
    top = found = 0
    for r in range(len(order)):
        begin = r
        if depth[top] < min(rest[order[r]], longest):      # from here to the end of the word
            top += 1
            depth[top], left[top] = min(rest[order[r]], longest), r
        while depth[top] > shared[r]:
            begin, count = left[top], total[r + 1] - total[left[top]]
            if depth[top] >= 2 and count >= least:
                places[found], lengths[found] = order[begin], depth[top]
                counts[found] = count
                found += 1
            top -= 1
        if depth[top] < shared[r]:
            top += 1
            depth[top], left[top] = shared[r], begin
    return found


def frequent_substrings(symbols, rest, weights, longest, least, most):
    """Substrings of 2 to `longest` symbols: places, lengths, counts, (S,) int64 each.

    weights (N,): how often the word around each place occurs. Of more than `most`, those with the
    largest count times length are kept.
    """
    order = suffix_order(symbols, rest, longest)
    shared = common_prefix(symbols, rest, order, longest)
    found = np.empty((3, 2 * len(order)), dtype=np.int64)
    n = runs(order, shared, rest, weights, longest, least, *found)
    places, lengths, counts = found[:, :n]
    best = np.argsort(-counts * lengths, kind="stable")[:most]
    return places[best], lengths[best], counts[best]
