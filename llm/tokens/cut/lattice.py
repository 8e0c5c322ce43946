"""Day 26 · The lattice of a word: every way to cut it into pieces, and sums over all of them.

Nodes are the places between characters, edges the pieces, and a path from the first place to the
last is a segmentation; its probability is the product of its pieces'. Here: the sum over all paths,
and how often each piece is expected among them, O(n·M) for n bytes and pieces of at most M bytes.
Leaves out: the best path and random ones, see paths.py; the n best.
"""

import numpy as np
from numba import njit

from llm.tokens.engine.trie import matches


@njit
def sums(data, begin, end, trie, scores, after):
    """after[k]: log of the total probability of all ways to cut data[begin + k:end].

    A log-sum-exp (day 07) over the pieces that start there, with the largest term so far taken
    out, so that nothing overflows. Inside a character it is −inf.
    """
    after[end - begin] = 0.0
    for i in range(end - 1, begin - 1, -1):
        largest, total = -np.inf, 0.0
        if data[i] & 0xC0 != 0x80:                         # a character starts here
            for piece, j in matches(data, i, end, trie, len(scores) - 1):
                term = scores[piece] + after[j - begin]
                if term > largest:
                    total = total * np.exp(largest - term) + 1.0
                    largest = term
                elif term > -np.inf:
                    total += np.exp(term - largest)
        after[i - begin] = largest + np.log(total) if total > 0 else -np.inf


@njit(cache=True, nogil=True)
def expect(store, starts, first, last, weights, trie, scores, counts):
    """The E-step: add to counts (P + 1,) how often each piece is expected in some words.

    Those are first … last − 1; word w is store[starts[w]:starts[w + 1]] and occurs weights[w]
    times. scores (P + 1,) are log probabilities, the last one that of an unknown character.
    Returns the log likelihood, in nats.
    """
    n = longest_word(starts, first, last) + 1
    after, passing, likelihood = np.empty(n), np.empty(n), 0.0
    for w in range(first, last):
        begin, end = starts[w], starts[w + 1]
        sums(store, begin, end, trie, scores, after)
        likelihood += weights[w] * after[0]
        passing[:end - begin + 1], passing[0] = 0.0, weights[w]     # paths through each place
        for i in range(begin, end):
            if passing[i - begin] > 0:
                for piece, j in matches(store, i, end, trie, len(scores) - 1):
                    share = np.exp(scores[piece] + after[j - begin] - after[i - begin])
                    counts[piece] += passing[i - begin] * share
                    passing[j - begin] += passing[i - begin] * share
    return likelihood


@njit
def longest_word(starts, first, last):
    """The bytes of the longest of the words first … last − 1."""
    longest = 0
    for w in range(first, last):
        longest = max(longest, starts[w + 1] - starts[w])
    return longest
