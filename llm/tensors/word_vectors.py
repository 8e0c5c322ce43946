"""Day 02 · Word vectors from counts: co-occurrence, PPMI, truncated SVD.

Words that keep the same company get similar vectors. Left out: learning (day 11 learns its vectors
by gradient descent), parts of words (days 24–26), and words too rare for the vocabulary.

Sources: Levy, Goldberg and Dagan, "Improving distributional similarity with lessons learned from
word embeddings", TACL 2015, sections 2 and 3; Church and Hanks, "Word association norms", 1990;
Linzen, "Issues in evaluating semantic spaces using word analogies", 2016.
"""

import re
from collections import Counter

import numpy as np

from llm.tensors.vectors import cosines, unit_rows


def words(text):
    """Lower-case words in order; apostrophes inside stay. "O, what's he?" -> o what's he."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())


def vocabulary(tokens, size):
    """The `size` most frequent words, most frequent first; ties in alphabetical order."""
    counts = Counter(tokens)
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]


def cooccurrence(tokens, vocab, window):
    """counts (V, V): how often word c stands within `window` places of word w, on either side.

    A word outside the vocabulary keeps its place, but is not counted.
    """
    size, index = len(vocab), {word: i for i, word in enumerate(vocab)}
    ids = np.array([index.get(word, -1) for word in tokens], np.int64)
    counts = np.zeros((size, size))
    for gap in range(1, min(window, len(ids) - 1) + 1):
        left, right = ids[:-gap], ids[gap:]
        both = (left >= 0) & (right >= 0)
        pairs = np.bincount(left[both] * size + right[both], minlength=size * size)
        counts += pairs.reshape(size, size)
    return counts + counts.T


def ppmi(counts, smoothing=0.75):
    """max(0, ln P(w, c) / (P(w) P(c))) of counts (V, V), in nats; 0 where a pair never occurs.

    P(c) is made of the counts to the power `smoothing`. A power below 1 raises P(c) of rare words,
    whose few pairs would otherwise get the highest scores. Raises ValueError where no pair occurs.
    """
    total = counts.sum()
    if total == 0:
        raise ValueError(f"no pairs were counted in {counts.shape}: give more text or more words")
    word = counts.sum(axis=1, keepdims=True) / total                   # (V, 1)
    company = counts.sum(axis=0, keepdims=True) ** smoothing           # (1, V)
    expected = word * (company / company.sum())                        # (V, V)
    ratio = np.divide(counts / total, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.log(np.maximum(ratio, 1.0))


def svd_vectors(m, size):
    """Vectors (V, size) = U_k √S_k for the k = size largest singular values of m (V, V).

    Returns them, and all the singular values (V,). Raises ValueError unless 0 < size ≤ V.
    """
    if not 0 < size <= min(m.shape):
        raise ValueError(f"size must be 1 to {min(m.shape)} for a matrix {m.shape}, got {size}")
    u, s, _ = np.linalg.svd(m, full_matrices=False)
    return u[:, :size] * np.sqrt(s[:size]), s


class WordVectors:
    """A vocabulary and one vector a word; answers by cosine.

    vocab: V words; vectors (V, C). A word whose vector is zero is dropped, since it has no
    direction. Raises ValueError where the two lengths differ.
    """

    def __init__(self, vocab, vectors):
        if len(vocab) != len(vectors):
            raise ValueError(f"{len(vocab)} words but vectors of shape {vectors.shape}")
        known = (vectors != 0).any(axis=1)                # a word without company has no direction
        self.vocab = [word for word, keep in zip(vocab, known) if keep]
        self.unit = unit_rows(vectors[known])
        self.index = {word: i for i, word in enumerate(self.vocab)}

    def __getitem__(self, word):
        """The word's vector (C,), of length 1. Raises ValueError for an unknown word."""
        if word not in self.index:
            raise ValueError(f"{word!r} is not among the {len(self.vocab)} words with a vector")
        return self.unit[self.index[word]]

    def nearest(self, vector, count=5, without=()):
        """[(word, cosine), …] of the `count` words nearest to `vector`, but for those `without`."""
        scores = cosines(self.unit, vector)
        best = (i for i in np.argsort(-scores) if self.vocab[i] not in without)
        return [(self.vocab[i], float(scores[i])) for i, _ in zip(best, range(count))]

    def neighbours(self, word, count=5):
        """As `nearest`, of the words around a word, without the word itself."""
        return self.nearest(self[word], count, without=(word,))

    def analogy(self, a, b, c, count=5):
        """a is to b as c is to …: the words nearest to b − a + c, those three left out."""
        return self.nearest(self[b] - self[a] + self[c], count, without=(a, b, c))

    def score(self, analogies):
        """Four counts over the analogies (a, b, c, d), each of how often d is found.

        As the first answer of `analogy`; among its first five; as the word nearest to c alone; and
        both as the first answer and nearest to c. The third is a control: where c alone does as
        well, b − a did nothing (Linzen 2016).
        """
        first = five = alone = both = 0
        for a, b, c, d in analogies:
            found = [word for word, _ in self.analogy(a, b, c)]
            by_arrow = found[:1] == [d]
            by_c = [word for word, _ in self.nearest(self[c], 1, without=(a, b, c))] == [d]
            first, five, alone = first + by_arrow, five + (d in found), alone + by_c
            both += by_arrow and by_c
        return first, five, alone, both
