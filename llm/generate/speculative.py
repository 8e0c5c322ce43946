"""Day 46 · Speculative decoding: a cheap draft guesses, one pass of the target checks every guess.

What comes out is distributed exactly as if the target had written it alone, whatever the draft is.
The target (llm/generate/reading.py) reads chunks; a draft (llm/generate/drafts.py) has

    propose(so_far, count, choose) -> (guesses, q)    at most `count` ids, and for each the (V,)
                                                      probabilities that it was drawn from
    truncate(n)                                       only the first n ids of the text still hold

Left out: several guesses for one place (trees of drafts), and batches of texts.
"""

import numpy as np

from llm.generate.sample import tempered


def speculate(target, draft, ids, n, choose, gamma=4, ends=(), log=None):
    """Yield n new ids after `ids`, in rounds of up to `gamma` guesses and one pass of the target.

    target: has read a beginning of `ids`, mostly nothing; it needs room for len(ids) + n − 1.
    choose: day 41's Chooser; its filters and penalties shape the target's and the draft's
    distributions alike, and its rng draws everything. At temperature 0 the ids are the greedy ones.
    ends: ids that end the text; they are not yielded, nor is what follows them.
    log: a list that gets (guesses, kept) after each round. When a round's ids come, target and
    draft have read all of them but the last.
    Raises ValueError, at the first id, if there is nothing to continue, on n or gamma below 0, and
    if the target has read too much; as plain decoding does, if the target's window is full.
    Source: Leviathan et al. (2023), algorithm 1; Chen et al. (2023), algorithm 2.
    """
    so_far = [int(i) for i in ids]
    if not so_far:
        raise ValueError("nothing to continue: give at least one id")
    if n < 0 or gamma < 0:
        raise ValueError(f"n {n} and gamma {gamma} must be 0 or more")
    if target.length >= len(so_far):
        raise ValueError(f"the target has read {target.length} ids of a text of {len(so_far)}: "
                         "reset it, or truncate it, so that the last one at least is unread")
    draft.truncate(len(so_far) - 1)
    left = n
    while left:
        new, guesses = one_round(target, draft, so_far, min(gamma, left - 1), choose)
        if log is not None:
            log.append((guesses, len(new) - 1))
        for i in new:
            if i in ends:
                return
            yield i
        left -= len(new)


def one_round(target, draft, so_far, count, choose):
    """Up to `count` guesses, one pass -> (the 1 … count + 1 new ids, how many were guessed).

    so_far grows by the new ids. Fewer are guessed where the draft has fewer, or the target's
    window has no room for more.
    """
    unread = so_far[target.length:]
    count = min(count, target.room - len(unread))
    guesses, q = draft.propose(so_far, count, choose) if count > 0 else ([], [])
    logits = target.read([*unread, *guesses], len(guesses) + 1)             # (guesses + 1, V)
    start = len(so_far)
    for row, guess, of in zip(logits, guesses, q):
        i = accept(chances(choose, row, so_far), of, guess, choose.rng)
        so_far.append(i)
        if i != guess:
            break
    else:                                         # all were kept, and the last row is still unused
        so_far.append(draw(chances(choose, logits[-1], so_far), choose.rng))
    target.truncate(len(so_far) - 1)
    draft.truncate(len(so_far) - 1)
    return so_far[start:], len(guesses)


def accept(p, q, guess, rng):
    """`guess`, drawn from q (V,), with probability min(1, p/q); else a token of the residual.

    Either way the result has the distribution p (V,), and it is the guess with probability
    Σ min(p, q). The residual is 0 at a refused guess, so the result tells whether it was kept.
    Source: Leviathan et al. (2023), section 2.3 and appendix A.1; Chen et al. (2023), theorem 1.
    """
    if rng.random() < min(1.0, p[guess] / q[guess]):
        return guess
    return draw(residual(p, q), rng)


def residual(p, q):
    """max(0, p − q) scaled to sum to 1: (V,), what q does not yet give of p. p, if that is 0."""
    more = np.maximum(p - q, 0.0)
    total = more.sum()
    return more / total if total > 0 else p


def chances(choose, logits, so_far):
    """What a Chooser draws from: (V,) float64 with sum 1, all of it on one id at temperature 0."""
    return tempered(choose.filtered(logits, so_far), 0 if choose.temperature == 0 else 1.0)


def draw(p, rng):
    """One id with probability p (V,), by inverting the sums as on day 08."""
    sums = np.cumsum(p)
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
