"""Day 06 · Smoothing: how much of a context's probability is kept, and how much is set free.

Every rule here turns the counts of one level (`counts.Level`) into two arrays: what each seen run
keeps, (G,), and what each context sets free for the shorter context to spend, (C,). Within one
context the kept parts and the free part add up to 1. `ngram.py` joins the levels.

Left out: Good–Turing and Katz's own discounts (their corrected counts are noisy from r = 5 on),
weights fitted on held-out text, and Pitman–Yor sampling, of which Kneser–Ney is the cheap limit.
"""

import numpy as np

from llm.models.counts import level, pack

SMOOTHINGS = ("add-k", "interpolated", "backoff", "absolute", "kneser-ney")
FALLBACK = np.array([0.5, 1.0, 1.5])  # where a level has too few counts to estimate discounts


def count(ids, order, vocab_size, smoothing):
    """The levels a smoothing needs, shortest runs first: n = 1 … order, for "add-k" order alone.

    All have plain counts but "kneser-ney": there only the top level has, and below it each run
    counts its distinct left neighbours. Take the list of distinct runs of n + 1 tokens and cut the
    oldest token off each: a run of n now stands in it once for every token seen before it.
    """
    lengths = [order] if smoothing in ("add-k", "kneser-ney") else range(1, order + 1)
    levels = [level(pack(ids, n, vocab_size), vocab_size) for n in lengths]
    if smoothing == "kneser-ney":
        for n in range(order - 1, 0, -1):
            levels.insert(0, level(levels[0].grams % np.uint64(vocab_size**n), vocab_size))
    return levels


def smooth(level, below, surely, vocab_size, smoothing, k, alpha, discount):
    """Three arrays: probability (G,) of each run, and escape (C,) and free (C,) of each context.

    escape is the factor on `below` for tokens that the context has not seen; free is the share of
    its probability that the context sets free.
    `below` (G,) is P(last token | context without its oldest token) of each run. `surely` (C,) is
    the part of that distribution which goes to tokens that the shorter context has not seen.
    """
    if smoothing == "add-k":
        kept, free = dirichlet(level, k * vocab_size)
    elif smoothing == "interpolated":
        kept, free = dirichlet(level, alpha)
    else:
        steps = np.full(3, discount) if discount else discounts(level.counts)
        kept, free = discounted(level, steps)
    if smoothing == "backoff":
        return back_off(level, kept, free, below, surely, vocab_size)
    return kept + free[level.owner] * below, free, free  # seen runs share in the free part, too


def dirichlet(level, strength):
    """Kept (G,) and free (C,): the posterior mean under a Dirichlet prior worth `strength` counts.

    Source: MacKay & Peto (1995), "A hierarchical Dirichlet language model"; derived on day 06.
    """
    whole = level.per_context(level.counts) + strength
    return level.counts / whole[level.owner], strength / whole


def discounted(level, steps):
    """Kept (G,) and free (C,): every count is cut by steps[0], [1] or [2] if it is 1, 2 or more.

    Source: Ney, Essen & Kneser (1994); Chen & Goodman (1998), sections 2.6 and 3.
    """
    cut = steps[np.minimum(level.counts, 3) - 1]
    total = level.per_context(level.counts)
    return (level.counts - cut) / total[level.owner], level.per_context(cut) / total


def discounts(counts):
    """The three discounts of modified Kneser–Ney, from how many runs were seen 1, 2, 3, 4 times.

    Source: Chen & Goodman (1998), section 3; `FALLBACK` where one of those numbers is 0 or a
    discount comes out at 0 or below (few runs, or a level where all are common).

    >>> discounts(np.repeat([1, 2, 3, 4], [100, 50, 30, 20]))  # Y = 100 / (100 + 2 · 50) = 1/2
    array([0.5       , 1.1       , 1.66666667])
    """
    n1, n2, n3, n4 = (np.count_nonzero(counts == r) for r in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if (found > 0).all() else FALLBACK


def back_off(level, kept, free, below, surely, vocab_size):
    """Only unseen tokens get the free part, so it is divided by what `below` gives to them.

    Where a context has seen all V tokens nothing is left to back off to: the kept parts are
    scaled up to 1 instead. What the shorter context has not seen, the longer one has not either:
    so at least `surely` is left, also where 1 minus a sum close to 1 has lost its digits.
    Source: Katz (1987), here with absolute discounts.
    """
    full = np.diff(level.first) == vocab_size
    unseen = np.where(full, 1.0, np.maximum(1 - level.per_context(below), surely))
    whole = np.where(full, 1 - free, 1.0)
    return kept / whole[level.owner], free / unseen, np.where(full, 0.0, free)
