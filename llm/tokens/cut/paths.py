"""Day 26 · One path through the lattice: the best one (Viterbi), or one at random; then its ids.

Ties are broken as SentencePiece and Hugging Face do, which decides ids: at each place the path
found first stays unless another is strictly better. Neighbouring unknown characters are fused into
one unknown token, or, with byte fallback, written as the pieces of their bytes.
Leaves out: str, splitting and caches; see segmenter.py.
"""

import numpy as np
from numba import njit

from llm.tokens.cut.lattice import longest_word, sums
from llm.tokens.engine.trie import matches

SPACE = 32
META = (0xE2, 0x96, 0x81)                # ▁ in UTF-8: what a space is called in vocabulary files


@njit
def best(data, begin, end, trie, scores, cost, left, via):
    """Viterbi: cost[k] is the log probability of the best way to cut the first k bytes.

    The last piece of that way is via[k] and starts at left[k]. O(n·M).
    """
    n = end - begin
    left[:n + 1], cost[0], left[0] = -1, 0.0, 0
    for i in range(begin, end):
        if left[i - begin] < 0:
            continue                                       # the middle of a character
        for piece, j in matches(data, i, end, trie, len(scores) - 1):
            total, k = cost[i - begin] + scores[piece], j - begin
            if left[k] < 0 or total > cost[k]:
                cost[k], left[k], via[k] = total, i - begin, piece


@njit
def best_path(n, left, via, cuts):
    """The path that `best` left behind: pieces via[cuts[0]], via[cuts[1]], …; how many."""
    steps, k = 0, n
    while k > 0:
        steps, k = steps + 1, left[k]
    k = n
    for s in range(steps - 1, -1, -1):
        cuts[s], k = k, left[k]
    return steps


@njit
def draw(data, begin, end, trie, scores, after, coins, left, via, cuts):
    """A path at random, in proportion to its probability; the same outputs as `best_path`.

    Sums run from the end (`backward`), so the path is drawn from the start: standing at i, the
    next piece has probability p(piece)·(all ways to go on behind it) / (all ways to go on from i).
    coins: a number from [0, 1) for each step.
    """
    sums(data, begin, end, trie, scores, after)
    steps, i = 0, begin
    while i < end:
        dart, chosen = coins[steps], i
        for piece, j in matches(data, i, end, trie, len(scores) - 1):
            share = np.exp(scores[piece] + after[j - begin] - after[i - begin])
            if share > 0 or chosen == i:                   # the last one catches rounding
                chosen = j
                left[j - begin], via[j - begin] = i - begin, piece
                dart -= share
                if dart < 0:
                    break
        cuts[steps] = chosen - begin
        steps, i = steps + 1, chosen
    return steps


@njit
def emit(data, begin, steps, left, via, cuts, unknown, unk, bytes_, tokens, out):
    """Write a path's ids to tokens from `out` on; returns where they end. −1: nothing fits.

    unknown: the number of the edge that stands for an unknown character; unk: the id of <unk> or
    −1; bytes_ (256,) int32: the id of each byte's piece or −1.
    """
    s = 0
    while s < steps:
        piece, first = via[cuts[s]], s
        while s < steps and (via[cuts[s]] == unknown or via[cuts[s]] == unk):
            s += 1
        if s == first or (s == first + 1 and piece == unk):
            tokens[out] = piece
            out, s = out + 1, first + 1
        else:
            a, b = begin + left[cuts[first]], begin + cuts[s - 1]
            out = fall_back(data, a, b, unk, bytes_, tokens, out)
    return out


@njit
def fall_back(data, a, b, unk, bytes_, tokens, out):
    """The ids of the unknown characters data[a:b]: their bytes', if all have one, else <unk>."""
    start = out
    for i in range(a, b):
        if data[i] == SPACE:
            for byte in META:
                tokens[out] = bytes_[byte]
                out += 1
        else:
            tokens[out] = bytes_[data[i]]
            out += 1
    for t in range(start, out):
        if tokens[t] < 0:
            tokens[start] = unk
            return start + 1
    return out


@njit(cache=True, nogil=True)
def segment(store, starts, first, last, trie, scores, unk, bytes_, tokens, token_starts):
    """The ids of words first … last − 1: word w gets tokens[token_starts[w]:token_starts[w + 1]].

    scores (P + 1,) float64: log probabilities, the last one that of an unknown character.
    """
    n = longest_word(starts, first, last) + 1
    cost, left = np.empty(n), np.empty(n, np.int64)
    via, cuts = np.empty(n, np.int64), np.empty(n, np.int64)
    for w in range(first, last):
        begin, end = starts[w], starts[w + 1]
        best(store, begin, end, trie, scores, cost, left, via)
        steps = best_path(end - begin, left, via, cuts)
        token_starts[w + 1] = emit(store, begin, steps, left, via, cuts, len(scores) - 1, unk,
                                   bytes_, tokens, token_starts[w])


@njit(cache=True, nogil=True)
def sample(data, starts, trie, scores, unk, bytes_, coins, tokens):
    """Write the ids of one random segmentation of each word of data (N,); returns how many.

    Word w is data[starts[w]:starts[w + 1]]; coins (N,) are random numbers from [0, 1), at most
    one for each character is used.
    """
    n, out = longest_word(starts, 0, len(starts) - 1) + 1, 0
    after, left = np.empty(n), np.empty(n, np.int64)
    via, cuts = np.empty(n, np.int64), np.empty(n, np.int64)
    for w in range(len(starts) - 1):
        begin, end = starts[w], starts[w + 1]
        steps = draw(data, begin, end, trie, scores, after, coins[begin:end], left, via, cuts)
        out = emit(data, begin, steps, left, via, cuts, len(scores) - 1, unk, bytes_, tokens, out)
    return out
