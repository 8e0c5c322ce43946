"""Day 05 · A Markov chain fitted by maximum likelihood, which means by counting.

"Order k" means that the next token is predicted from the k tokens before it. The estimate of
P(w | h) is the share of w among the tokens that followed the context h in the text. Only what was
seen is stored, so the table of V^k rows never exists in memory.

Left out: any remedy for what was not seen. A transition that never occurred has probability 0, a
context that never occurred has no distribution at all; day 06 repairs both.
"""

import numpy as np

from llm.models.counts import checked, find, level, longest, pack


class MarkovChain:
    """P(next token | the last `order` tokens), from counts; `MarkovChain.fit` makes one.

    `counts` is the Level of runs of order + 1 tokens (G runs, C contexts), `probability` (G,)
    float64 the estimate for each run.
    """

    def __init__(self, order, vocab_size, counts):
        self.order, self.vocab_size, self.counts = order, vocab_size, counts
        total = counts.per_context(counts.counts)  # (C,) how often each context was continued
        self.probability = counts.counts / total[counts.owner]

    @classmethod
    def fit(cls, ids, order, vocab_size):
        """Count the transitions of `ids` (T,), T > order. Time O(T log T).

        Takes about 18 T bytes on the way, and up to 60 T where most runs are distinct.

        Raises ValueError for ids outside 0 … V − 1, T ≤ order, or V^(order + 1) > 2^64.
        Source: Markov (1913); Shannon (1948), section 3.
        """
        ids = checked(ids, vocab_size)
        if not 0 <= order < longest(vocab_size):
            raise ValueError(f"order {order} with a vocabulary of {vocab_size}: "
                             f"use 0 … {longest(vocab_size) - 1}, so that runs fit in 64 bits")
        if len(ids) <= order:
            raise ValueError(f"ids of shape {ids.shape} hold no transition of order {order}; "
                             "use a longer text or a smaller order")
        return cls(order, vocab_size, level(pack(ids, order + 1, vocab_size), vocab_size))

    @property
    def parameters(self):
        """Free numbers of the full table: V^k rows of V probabilities that sum to 1 (an int)."""
        return self.vocab_size**self.order * (self.vocab_size - 1)

    def matrix(self):
        """The transition matrix of an order-1 chain: (V, V), row = previous token.

        A token that was never followed by another has a row of zeros. Raises ValueError for any
        other order.
        """
        if self.order != 1:
            raise ValueError(f"a chain of order {self.order} has no (V, V) matrix; use order 1")
        p = np.zeros(self.vocab_size**2)
        p[self.counts.grams] = self.probability
        return p.reshape(self.vocab_size, self.vocab_size)

    def distribution(self, context):
        """P(next | last `order` tokens of `context`): (V,) float64, or ValueError if never seen."""
        code = self._pack(context)
        at, runs = self.counts.followers(code)
        if at is None:
            raise ValueError(f"the context {np.asarray(context)[-self.order:].tolist()} was never "
                             f"followed by anything in the text; use an order below {self.order}")
        p = np.zeros(self.vocab_size)
        p[self.counts.grams[runs] % np.uint64(self.vocab_size)] = self.probability[runs]
        return p

    def log_probabilities(self, ids):
        """ln P of each token that has `order` predecessors: (T,) → (T − order,) float64, nats.

        −inf where the transition was never seen, also where its context was not.
        """
        codes = pack(checked(ids, self.vocab_size), self.order + 1, self.vocab_size)
        at, seen = find(self.counts.grams, codes)
        out = np.full(len(codes), -np.inf)
        out[seen] = np.log(self.probability[at[seen]])
        return out

    def generate(self, n, rng, prompt=None):
        """Draw up to `n` tokens: (≤ n,) int32, without the prompt.

        `prompt` (T,), T ≥ order, must end in a context of the text; without one the first context
        is that of a random place in the text. Ends early only where the text itself ended. Raises
        ValueError for a prompt that is too short, or that the text never had.
        """
        if prompt is None:
            context = self.counts.grams[self._draw(rng, slice(None))] // np.uint64(self.vocab_size)
        else:
            self.distribution(prompt)  # raises where nothing is known about the prompt
            context = self._pack(prompt)[0]
        keep, out = np.uint64(self.vocab_size**self.order), []
        for _ in range(n):
            at, runs = self.counts.followers(np.array([context], np.uint64))
            if at is None:
                break
            run = self.counts.grams[runs.start + self._draw(rng, runs)]
            out.append(run % np.uint64(self.vocab_size))
            context = run % keep  # forget the oldest token
        return np.array(out, np.int32)

    def _draw(self, rng, runs):
        """One run of a slice, each with a chance in proportion to its count."""
        ladder = np.cumsum(self.counts.counts[runs])
        return np.searchsorted(ladder, rng.integers(ladder[-1]), side="right")

    def _pack(self, context):
        """The last `order` tokens of a context (T,) as one packed number: (1,)."""
        context = checked(context, self.vocab_size)
        if len(context) < self.order:
            raise ValueError(f"a context of shape {context.shape} is shorter than the order "
                             f"{self.order}; give at least {self.order} tokens")
        return pack(context[len(context) - self.order:], self.order, self.vocab_size)
