"""Day 38 · The n-gram of day 06 as a prior: all of P(next | context), counted without the answer.

A network that is trained on top of counts must not see counts that hold the answer. There are two
ways to take it out, and neither counts the text again:

- leave one out: the event "this token after that context" is missing. Only the runs that end in
  this token change, each by one at most, so it is done while reading.
- cross-fitting: the whole part of the text that the position lies in is missing. Each part has
  its own copy of the counts, lowered by what the part holds.

With Kneser–Ney a shorter run counts the distinct tokens seen before it. So taking events out lowers
the longest runs' counts, and a shorter run's by the longer ones that fall to zero. The discounts
stay as they were estimated from all counts. Left out: that token t is also part of the contexts of
the tokens after it (cross-fitting loses only order − 1 events at each border of a part by that).
"""

import numpy as np
from numba import njit, prange

from llm.models.counts import find, pack
from llm.models.smoothing import count, discounts


class Prior:
    """Kneser–Ney counts of `ids` (N,) up to runs of `order`, ready to be read at any position.

    counts (1 + parts, runs) and sums (1 + parts, contexts, 4): row 0 holds all counts, row 1 + k
    those without part k. A context's sums are its total, and how many runs have 1, 2, 3+.
    """

    def __init__(self, ids, order, V, parts=0):
        ids = np.asarray(ids)
        self.order, self.V, self.parts = order, V, parts
        self.levels = count(ids, order, V, "kneser-ney")
        self.cut = np.zeros((order, 4), np.float32)            # discount of a count of 0, 1, 2, 3+
        for n, level in enumerate(self.levels):
            self.cut[n, 1:] = discounts(level.counts)
        grams = np.concatenate([level.grams for level in self.levels])
        self.tokens = (grams % np.uint64(V)).astype(np.int32)
        self.gram_from, self.context_from = (np.concatenate([[0], np.cumsum(
            [len(getattr(v, name)) for v in self.levels])]) for name in ("grams", "contexts"))
        self.first = np.concatenate([level.first[:-1] + start for level, start in
                                     zip(self.levels, self.gram_from)] + [[len(grams)]])
        whole = np.concatenate([level.counts for level in self.levels]).astype(np.int32)
        self.own = self.places(ids)
        self.part_of = np.zeros(len(ids), np.int32)
        if parts:
            self.part_of[:] = 1 + np.arange(len(ids)) * parts // len(ids)
        self.counts = np.stack([whole, *self.without_parts(whole)])
        self.sums = np.stack([self.summed(counts) for counts in self.counts])

    def without_parts(self, whole):
        """Yield the counts (runs,) that are left when one part of the text is taken out."""
        shorter = [find(below.grams, level.grams % np.uint64(self.V**n))[0]
                   for n, (below, level) in enumerate(zip(self.levels, self.levels[1:]), 1)]
        for part in range(1, self.parts + 1):
            left, ends = whole.copy(), self.own[1][self.part_of == part, -1]
            gone = np.bincount(ends[ends >= 0] - self.gram_from[-2], minlength=len(
                self.levels[-1].grams))                       # of the longest runs
            for n in range(self.order - 1, -1, -1):
                here = left[self.gram_from[n]:self.gram_from[n + 1]]
                here -= gone.astype(np.int32)
                if n:
                    lost = (gone > 0) & (here == 0)
                    gone = np.bincount(shorter[n - 1][lost], minlength=len(
                        self.levels[n - 1].grams))
            yield left

    def summed(self, counts):
        """(runs,) -> (contexts, 4)."""
        columns = (counts, counts == 1, counts == 2, counts > 2)
        return np.stack([np.add.reduceat(x, self.first[:-1], dtype=np.int32)
                         for x in columns], axis=1)

    def places(self, ids):
        """Where in the tables each token of `ids` (N,) stands: its contexts and its runs.

        Returns two (N, order) int32 arrays, column n − 1 for runs of n tokens; −1: not seen.
        """
        ids = np.asarray(ids)
        contexts = np.full((len(ids), self.order), -1, np.int32)
        grams = np.full((len(ids), self.order), -1, np.int32)
        for n, level in enumerate(self.levels, 1):
            codes = pack(ids, n, self.V)
            for table, wanted, out, start in (
                    (level.grams, codes, grams, self.gram_from[n - 1]),
                    (level.contexts, codes // np.uint64(self.V), contexts,
                     self.context_from[n - 1])):
                distinct, back = np.unique(wanted, return_inverse=True)     # each is looked up once
                at, known = find(table, distinct)
                out[n - 1:, n - 1] = np.where(known, at + start, -1)[back]
        return contexts, grams

    def log_p(self, contexts, grams, part=0, leave_out=False):
        """(…, order) places -> ln P (…, V) float32 of all tokens there, and the depth (…) int32.

        part: a row of `counts`, or one (…) for each place. leave_out: take the event at each place
        out as well. Depth: tokens in the longest run whose context has been seen (elsewhere).
        """
        shape = contexts.shape[:-1]
        p, depth = np.empty((*shape, self.V), np.float32), np.empty(shape, np.int32)
        part = np.ascontiguousarray(np.broadcast_to(np.asarray(part, np.int32), shape))
        read(contexts.reshape(-1, self.order), grams.reshape(-1, self.order), part.reshape(-1),
             leave_out, self.cut, self.tokens, self.counts, self.first, self.sums,
             p.reshape(-1, self.V), depth.reshape(-1))
        return np.log(p, out=p), depth


@njit(parallel=True, error_model="numpy", cache=True)
def read(contexts, grams, part, leave_out, cut, tokens, counts, first, sums, out, depth):
    """out (M, V) ← P; the longest context first, each passing on what it sets free."""
    for m in prange(len(contexts)):
        p, count = out[m], counts[part[m]]
        p[:] = 0
        free, less, depth[m] = np.float32(1), leave_out and grams[m, -1] >= 0, 0
        for n in range(contexts.shape[1] - 1, -1, -1):
            c, g = contexts[m, n], grams[m, n]
            if c < 0:
                continue
            total, ones, twos, more = sums[part[m], c]
            r = count[g] if less else 0
            if less:
                total -= 1
                ones, twos, more = (ones - (r == 1) + (r == 2), twos - (r == 2) + (r == 3),
                                    more - (r == 3))
            if total > 0:
                depth[m] = max(depth[m], n + 1)
                for i in range(first[c], first[c + 1]):
                    seen = count[i] - (less and i == g)
                    p[tokens[i]] += free * (seen - cut[n, min(seen, 3)]) / total
                free *= (ones * cut[n, 1] + twos * cut[n, 2] + more * cut[n, 3]) / total
            less = less and r == 1
        p += free / len(p)
