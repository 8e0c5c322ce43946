"""Day 16 · Two models on the same text: their mixture, where each wins, and what a typo does."""

import time
from statistics import median

import numpy as np

from llm.models.counts import find, pack
from llm.models.neural_ngram import best_weight, log_probabilities, mix
from llm.models.ngram import NGram
from llm.models.window import windows

WEIGHTS = np.linspace(0, 1, 41).tolist()         # of the network, for the curves
SHORTEST = 2                                     # known contexts of 0, 1 or 2 tokens are one row


def counted(seen, orders, size):
    """{order: n-gram model} and {order: seconds to fit it}, the median of three."""
    models, seconds = {}, {}
    for n in orders:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            models[n] = NGram.fit(seen, n, size)
            times.append(time.perf_counter() - began)
        seconds[n] = median(times)
    return models, seconds


def nats(logp):
    """The mean price of tokens whose ln P is given."""
    return float(-np.mean(logp))


def chosen(choose, report):
    """(weight that fits one text best, nats of that mixture on another); each text is a, b."""
    weight = best_weight(*choose)
    return weight, nats(mix(*report, weight))


def second_opinion(models, order, choose, report, skip):
    """(order n, its weight, nats): the mixture of `order` with that lower n which fits best."""
    best = None
    for n in range(2, order):
        (a, b), (c, d) = ([models[k].log_probabilities(ids)[skip:] for k in (n, order)]
                          for ids in (choose, report))
        weight = best_weight(a, b)
        best = min(best or (np.inf,), (nats(mix(a, b, weight)), n, weight, nats(mix(c, d, weight))))
    return list(best[1:])


def known(model, ids):
    """How many of the tokens before each one are a context that was counted: ids (L,) → (L,)."""
    found = np.zeros(len(ids), int)
    for n, level, _, _ in model.stored():
        ends = np.arange(n - 1, len(ids))        # the token that each context of n − 1 predicts
        seen = find(level.contexts, pack(ids, n - 1, model.vocab_size)[:len(ends)])[1]
        found[ends[seen]] = n - 1
    return found


def by_known(choose, report, lengths):
    """Rows: known context, share, network, counting, mixture; and the mean of the last.

    Each row has a weight of its own. choose, report: (a, b) of each text; lengths: `known` there.
    """
    rows, lengths = [], [np.maximum(of, SHORTEST) for of in lengths]
    for k in np.unique(lengths[1]):
        (a, b), (c, d) = ([x[of == k] for x in text]
                          for text, of in zip((choose, report), lengths))
        loss = chosen((a, b), (c, d))[1] if len(a) else nats(d)
        rows.append([int(k), len(c) / len(report[0]), nats(c), nats(d), loss])
    return rows, float(sum(share * loss for _, share, _, _, loss in rows))


def typos(net, models, order, weight, ids, letters, trials, rng):
    """Rows: place of a random letter, then nats of the next token by network, counting, mixture,
    and by counting so short a run that the typo is out of sight; then the share of the typos that
    make another known context, network and counting there, network and counting elsewhere."""
    context = net.context
    contexts, targets = windows(ids, context)
    at = rng.integers(len(targets), size=trials)
    rows = []
    for place in range(1, context + 1):
        runs = np.column_stack([contexts[at], targets[at]])      # (N, T + 1)
        runs[:, context - place] = rng.choice(letters, len(runs))
        flat = runs.reshape(-1)                  # each run is scored at its own last token
        ends = slice(context, None, context + 1)
        a = log_probabilities(net, flat)[::context + 1]
        b, short = (models[n].log_probabilities(flat)[ends] for n in (order, min(place, order)))
        fits = known(models[order], flat)[ends] >= place
        rows.append([place, nats(a), nats(b), nats(mix(a, b, weight)), nats(short), fits.mean(),
                     *(nats(x[of]) if of.any() else None for of in (fits, ~fits) for x in (a, b))])
    return rows
