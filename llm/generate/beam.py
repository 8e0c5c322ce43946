"""Day 41 · Beam search: looking for the most likely continuation, several candidates at a time.

`step(ids) -> logits (V,)` of the token after ids is all it knows of a model. Left out: a batched
step and a cache (day 42 gives both), diverse beams, coverage.
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.generate.sample import scaled


@dataclass(frozen=True)
class Hypothesis:
    """A continuation, without the prompt; `finished` if a stop token, its last id, ended it."""

    ids: tuple
    log_p: float       # ln of its probability, given the prompt
    score: float       # log_p / len(ids)^alpha, what the search ranks by
    finished: bool


def beam_search(step, ids, n, width, alpha=0.0, stop=()):
    """Return up to `width` continuations of at most n tokens, the best score first.

    Each round extends every live hypothesis by every token and selects the `width` most likely of
    all. Those that end in a stop token are finished and leave; the rest live on. Ties go to the
    better parent, then to the lower id. Width 1 is greedy decoding; if all prefixes shorter than n
    fit into the width, the best of all texts is found. With alpha = 0 longer is never better, 1
    ranks by the mean log-probability of a token; alpha acts on what is returned, not inside a
    round, where all live hypotheses have one length.

    ids: the prompt, any sequence. Costs up to n·width calls of step. Ends before n, without
    changing the result, once no live hypothesis can enter it. Raises ValueError on n or width < 1
    and on alpha < 0.
    Source: Wu et al. (2016), "Google's Neural Machine Translation System", section 7; our |Y|^alpha
    stands in the place of equation 14's (5 + |Y|)^alpha / 6^alpha.
    """
    if n < 1 or width < 1 or not alpha >= 0:
        raise ValueError(f"beam search needs n ≥ 1, width ≥ 1 and alpha ≥ 0, not {n}, {width} and "
                         f"{alpha}")
    prompt, stop = [int(i) for i in ids], frozenset(stop)
    live, done = [((), 0.0)], []
    for length in range(1, n + 1):
        found = [(tail + (i,), log_p) for tail, i, log_p in extend(step, prompt, live, width)]
        ended = [h for h in found if h[0][-1] in stop]
        live = [h for h in found if h[0][-1] not in stop]
        done += [Hypothesis(tail, p, p / length**alpha, True) for tail, p in ended]
        done = sorted(done, key=lambda h: -h.score)[:width]
        if not live or (len(done) == width and done[-1].score >= live[0][1] / n**alpha):
            break                        # log_p only falls, so log_p / n^alpha is out of reach
    else:
        done += [Hypothesis(tail, p, p / n**alpha, False) for tail, p in live]
    return sorted(done, key=lambda h: -h.score)[:width]


def extend(step, prompt, live, width):
    """The `width` most likely one-token extensions: (tail, id, log_p), the likeliest first."""
    totals = []                                          # one (V,) for each live hypothesis
    for tail, log_p in live:
        z = scaled(np.asarray(step(prompt + list(tail))), 1.0)
        if z.ndim != 1:
            raise ValueError(f"step must return the logits of one token, (V,), not {z.shape}")
        totals.append(log_p + z - math.log(np.exp(z).sum()))
    totals = np.stack(totals)                            # (live, V)
    best = np.argsort(-totals.ravel(), kind="stable")[:width]
    parents, tokens = np.unravel_index(best, totals.shape)
    return [(live[a][0], int(i), float(totals[a, i])) for a, i in zip(parents, tokens)
            if totals[a, i] > -np.inf]
