"""Day 26 · Training a Unigram model: start with too many pieces, fit, drop the worst, repeat.

Fitting is EM: count each piece in all segmentations of all words, weighted by their probability
(E-step, lattice.py), then make probabilities of the counts (M-step, day 05). What goes is what
costs the least likelihood. Distinct words are counted once, as on day 25.
Leaves out: SentencePiece's M-step, which makes rare pieces rarer (digamma in place of log).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from llm.tokens.cut.lattice import expect
from llm.tokens.cut.paths import best
from llm.tokens.cut.segmenter import BLOCK, words_of
from llm.tokens.engine.trie import build
from llm.tokens.engine.words import Words, room
from llm.tokens.learn.seed import frequent_substrings

FLOOR = 1e-3             # occurrences: a piece that is kept but was not needed stays possible
RARE = 0.5               # occurrences: with fewer a piece goes first
ROUNDS = 2               # of EM, before some pieces go
KEEP = 0.8               # share of the pieces that stay


def count_words(texts, rule):
    """Distinct words of all texts: their bytes (N,), starts (n + 1,), and counts (n,) int64."""
    words, counts = Words(), np.zeros(1 << 11, dtype=np.int64)
    for text in texts:
        data, ends, _ = words_of([text], rule)
        first = 0
        for k in range(0, len(ends), BLOCK):
            known = words.n
            numbers = words.add(data, first, ends[k:k + BLOCK])
            first = int(ends[k:k + BLOCK][-1])
            counts = room(counts, words.n)
            counts[known:words.n] = 0
            counts[:words.n] += np.bincount(numbers, minlength=words.n)
    return words.store[:words.size], words.starts[:words.n + 1], counts[:words.n]


def seed(store, starts, weights, longest, most, must_have):
    """The first vocabulary: store (N + …,) with must_have added, spans (P, 2), counts (P,), C.

    The first C pieces are the single characters, in the order of their code points; at most
    `most` repeated substrings follow.
    """
    extra = "".join(sorted(set(must_have) - set(store.tobytes().decode())))
    store = np.concatenate([store, np.frombuffer(extra.encode(), dtype=np.uint8)])
    symbols = np.frombuffer(store.tobytes().decode().encode("utf-32-le"), dtype="<u4")
    place = np.append(np.flatnonzero(store & 0xC0 != 0x80), len(store))    # byte of each symbol
    n = len(symbols) - len(extra)
    word = np.searchsorted(starts, place[:n], side="right") - 1
    rest = np.searchsorted(place, starts[1:])[word] - np.arange(n)
    found, first, which = np.unique(symbols, return_index=True, return_inverse=True)
    counts = np.bincount(which[:n], weights=weights[word], minlength=len(found))
    begin, lengths = first, np.ones(len(first), dtype=np.int64)
    if n:
        more = frequent_substrings(symbols[:n], rest, weights[word], longest, 2, most)
        begin, lengths = np.append(begin, more[0]), np.append(lengths, more[1])
        counts = np.append(counts, more[2])
    return store, np.stack([place[begin], place[begin + lengths]], axis=1), counts, len(found)


def log_shares(counts):
    """The M-step: log probabilities (P,) that make counts (P,) most likely (day 05)."""
    counts = np.maximum(counts, FLOOR)
    return np.log(counts / counts.sum())


def e_step(store, starts, weights, trie, scores):
    """Expected counts (P,) and the log likelihood in nats, given scores (P,). Two threads."""
    scores, counts = np.append(scores, 0.0), np.zeros((2, len(scores) + 1))
    half = int(np.searchsorted(starts, starts[-1] // 2))
    parts = ((0, half, counts[0]), (half, len(weights), counts[1]))
    with ThreadPoolExecutor(2) as pool:
        nats = list(pool.map(lambda part: expect(store, starts, *part[:2], weights, trie, scores,
                                                 part[2]), parts))
    return counts.sum(axis=0)[:-1], sum(nats)


def learn_pieces(texts, wanted, rule, longest=16, seeds=4, must_have="", report=None):
    """Up to `wanted` pieces as [(bytes, log probability)], the most likely first.

    All single characters are kept, those of `must_have` too. It starts from `seeds` times as many
    repeated substrings as are wanted; 1.5 is allowed. report(pieces, nats) is called after each
    E-step with the number of pieces and the log likelihood of all texts.
    Source: Kudo 2018, section 3.2.
    """
    store, starts, weights = count_words(texts, rule)
    store, spans, counts, characters = seed(store, starts, weights, longest,
                                            max(int(seeds * wanted), 0), must_have)
    if wanted < characters:
        raise ValueError(f"there are {characters} different characters, which must all be pieces, "
                         f"but vocab_size leaves room for {wanted}; ask for more")
    scores = log_shares(counts * (spans[:, 1] - spans[:, 0]))       # a first guess
    while True:
        trie = build(store, spans)
        for _ in range(ROUNDS):
            counts, likelihood = e_step(store, starts, weights, trie, scores)
            scores = log_shares(counts)
            if report:
                report(len(spans), likelihood)
        if len(spans) <= wanted:
            break
        useful = losses(store, spans, trie, np.append(scores, 0.0), counts)
        useful[:characters] = np.inf
        most = max(wanted, min(int(KEEP * len(spans)), np.count_nonzero(counts >= RARE)))
        kept = np.sort(np.argsort(-useful, kind="stable")[:most])
        spans, scores = spans[kept], log_shares(counts[kept])
    pieces = [store[a:b].tobytes() for a, b in spans.tolist()]
    return sorted(zip(pieces, scores.tolist()), key=lambda piece: (-piece[1], piece[0]))


@njit(cache=True, nogil=True)
def losses(store, spans, trie, scores, counts):
    """The log likelihood that goes with each piece, (P,): its count times what one use is worth.

    One use is worth the piece's score less that of the best way to cut its bytes without it.
    Fewer than RARE uses count as none. scores (P + 1,) as everywhere.
    """
    n = 1
    for a, b in spans:
        n = max(n, b - a + 1)
    cost, left, via = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64)
    lost, without = np.zeros(len(spans)), scores.copy()
    for p in range(len(spans)):
        if counts[p] >= RARE:
            a, b = spans[p]
            without[p] = -np.inf
            best(store, a, b, trie, without, cost, left, via)
            without[p] = scores[p]
            lost[p] = counts[p] * (scores[p] - cost[b - a])
    return lost
