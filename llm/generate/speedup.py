"""Day 46 · What speculation is worth: acceptance, tokens a round, and the best number of guesses.

alpha: the probability that a guess is kept. c: one pass of the draft, chunk: a pass of the target
over all guesses, both in passes of the target over one token. Left out: the time of drawing.
"""

import numpy as np


def acceptance(p, q):
    """The probability that a guess drawn from q is kept for p: Σ min(p, q), (..., V) -> (...).

    1 minus the total variation distance ½ Σ |p − q|. Source: Leviathan et al. (2023), theorem 3.5.
    """
    return np.minimum(p, q).sum(axis=-1)


def expected_tokens(alpha, gamma):
    """New tokens a round: 1 + α + … + α^γ, which is (1 − α^(γ+1)) / (1 − α), and γ + 1 at α = 1.

    Assumes that each guess is kept with the same probability, independently of the others.
    Source: Leviathan et al. (2023), equation 1.
    """
    return sum(alpha ** k for k in range(gamma + 1))


def speedup(alpha, gamma, c, chunk=1.0):
    """How many times as fast as the target alone: tokens a round over its cost, γc + chunk.

    With chunk 1 it is Leviathan et al. (2023), theorem 3.8.
    """
    return expected_tokens(alpha, gamma) / (gamma * c + chunk)


def best_gamma(alpha, c, chunk=lambda n: 1.0, most=32):
    """(γ, speedup) of the γ in 0 … most that is fastest; chunk(n): the cost of n tokens at once.

    γ = 0 is the target alone, at speedup 1. The smallest γ wins a tie.
    """
    found = [speedup(alpha, gamma, c, chunk(gamma + 1) if gamma else 1.0)
             for gamma in range(most + 1)]
    gamma = int(np.argmax(found))
    return gamma, found[gamma]
