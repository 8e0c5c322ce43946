"""Day 06 · Smoothed n-gram models: add-k, Dirichlet, absolute discounting, back-off, Kneser–Ney.

"Order n" means runs of n tokens: the next token is predicted from at most n − 1 predecessors, so
it is a Markov chain of order n − 1 in the words of day 05. Every smoothing ends in one stored form:
the probability of each run that was seen, and for each context the factor ("escape") that scales
the shorter context's probability of a token not seen there. Scoring and generating read only that.

Left out: pruning, files, counts that grow with new text, and orders with V^n > 2^64 (`counts.py`).
"""

import numpy as np

from llm.models.counts import checked, find, longest, pack
from llm.models.smoothing import SMOOTHINGS, count, smooth


class NGram:
    """An n-gram model over token ids; `NGram.fit` makes one.

    `lengths[i]` is the run length of level i, `levels[i]` its runs, `probability[i]` (G,) their
    final probabilities, `escape[i]` (C,) the factor of each context for tokens not seen in it.
    """

    def __init__(self, order, vocab_size, smoothing):
        self.order, self.vocab_size, self.smoothing = order, vocab_size, smoothing
        self.lengths = [order] if smoothing == "add-k" else list(range(1, order + 1))
        self.levels, self.probability, self.escape = [], [], []

    @classmethod
    def fit(cls, ids, order, vocab_size, smoothing="kneser-ney", k=0.02, alpha=50.0,
            discount=None):
        """Count the runs of `ids` (T,) and smooth them.

        `smoothing` is "add-k" (pseudo-count `k`), "interpolated" (Dirichlet prior of strength
        `alpha` around the shorter context), "backoff", "absolute" or "kneser-ney"; the last three
        take one `discount` in (0, 1), or by default three per level, estimated from the counts.
        Time O(n T log T), memory about 40 bytes per distinct run.
        Raises ValueError for ids outside the vocabulary, T < order, V^order > 2^64, bad options.
        Source: Chen & Goodman (1998), sections 2.1–2.7 and 3.
        """
        ids = check(checked(ids, vocab_size), order, vocab_size, smoothing, k, alpha, discount)
        model = cls(order, vocab_size, smoothing)
        free = None
        for level in count(ids, order, vocab_size, smoothing):
            probability, escape, free = smooth(level, model.shorter(level),
                                               model.surely(level, free), vocab_size, smoothing,
                                               k, alpha, discount)
            model.levels.append(level)
            model.probability.append(probability)
            model.escape.append(escape)
        return model

    def shorter(self, level):
        """P(last token | context without its oldest token) of each run of the next level: (G,)."""
        if not self.levels:  # below the shortest context every token is equally likely
            return np.full(len(level.grams), 1 / self.vocab_size)
        suffix = level.grams % np.uint64(self.vocab_size ** self.lengths[len(self.levels) - 1])
        return self.probability[-1][find(self.levels[-1].grams, suffix)[0]]

    def surely(self, level, free):
        """What the shorter context of each context of the next level leaves to unseen tokens: (C,).

        free: what each context of the last level sets free, as `smooth` returned it.
        """
        if not self.levels:  # the uniform distribution
            return 1 - np.diff(level.first) / self.vocab_size
        n = self.lengths[len(self.levels) - 1]
        suffix = level.contexts % np.uint64(self.vocab_size ** (n - 1))
        return free[find(self.levels[-1].contexts, suffix)[0]]

    def stored(self):
        """(run length, level, probability, escape), shortest first."""
        return zip(self.lengths, self.levels, self.probability, self.escape)

    @property
    def size(self):
        """How many numbers the model holds: one per distinct run and one per distinct context."""
        return sum(len(level.grams) + len(level.contexts) for level in self.levels)

    def log_probabilities(self, ids):
        """ln P of each token given its up to order − 1 predecessors: (T,) → (T,) float64, nats.

        The first tokens have fewer predecessors and use the levels that fit. Finite for every
        token of the vocabulary. O(n T log G) time, about 50 T bytes.
        """
        ids = checked(ids, self.vocab_size)
        p = np.full(len(ids), 1 / self.vocab_size)
        for n, level, probability, escape in self.stored():
            codes = pack(ids, n, self.vocab_size)
            gram, seen = find(level.grams, codes)
            context, known = find(level.contexts, codes[~seen] // np.uint64(self.vocab_size))
            longer = p[n - 1:]  # a view: the tokens with at least n − 1 predecessors
            longer[~seen] *= np.where(known, escape[context], 1.0)
            longer[seen] = probability[gram[seen]]
        return np.log(p)

    def distribution(self, context):
        """P(next token | the last order − 1 tokens of `context`): (V,) float64 that sums to 1."""
        context = checked(context, self.vocab_size)
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for n, level, probability, escape in self.stored():
            if len(context) < n - 1:
                break
            at, runs = level.followers(pack(context[len(context) - n + 1:], n - 1, self.vocab_size))
            if at is not None:  # an unknown context has nothing to say: p stays as it is
                p *= escape[at]
                p[level.grams[runs] % np.uint64(self.vocab_size)] = probability[runs]
        return p

    def generate(self, n, rng, prompt=()):
        """Draw `n` tokens after `prompt` (T,), one at a time: (n,) int32, without the prompt."""
        ids = list(checked(prompt, self.vocab_size))
        for _ in range(n):
            recent = np.array(ids[max(len(ids) - self.order + 1, 0):], np.int64)
            ladder = np.cumsum(self.distribution(recent))  # day 08 explains the next line
            ids.append(int(np.searchsorted(ladder, rng.random() * ladder[-1], side="right")))
        return np.array(ids[len(ids) - n:], np.int32)


def check(ids, order, vocab_size, smoothing, k, alpha, discount):
    """`ids`, or a ValueError that says what is wrong with the arguments of `fit`."""
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"no smoothing {smoothing!r}; use one of {', '.join(SMOOTHINGS)}")
    if not 1 <= order <= longest(vocab_size):
        raise ValueError(f"order {order} with a vocabulary of {vocab_size}: "
                         f"use 1 … {longest(vocab_size)}, so that V^order fits in 64 bits")
    if len(ids) < order:
        raise ValueError(f"ids of shape {ids.shape} hold no run of {order} tokens; "
                         "use a longer text or a smaller order")
    if k <= 0 or alpha <= 0:
        raise ValueError(f"k = {k} and alpha = {alpha} must be above 0, else unseen tokens get 0")
    if discount is not None and not 0 < discount < 1:
        raise ValueError(f"discount = {discount} must lie between 0 and 1, or be None")
    return ids
