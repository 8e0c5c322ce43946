"""Day 46 · A draft that knows the answer and errs on purpose: the formula where it must hold."""

import time

import numpy as np

from days.day46.measuring import between
from llm.generate.drafts import certain
from llm.generate.speculative import speculate
from llm.generate.speedup import speedup
from llm.generate.truncate import Chooser

GREEDY = Chooser(np.random.default_rng(0), temperature=0.0)


class Knowing:
    """Proposes the text itself, each id wrong with probability 1 − alpha, independently."""

    def __init__(self, text, alpha, V, rng):
        self.text, self.alpha, self.V, self.rng = text, alpha, V, rng

    def propose(self, so_far, count, choose):
        right = self.text[len(so_far):len(so_far) + count]
        guesses = [i if self.rng.random() < self.alpha else (i + 1) % self.V for i in right]
        return guesses, list(certain(guesses, self.V))

    def truncate(self, n):
        """Nothing to do."""


def gains(target, prompt, n, alphas, gammas, passes, drawing, seed):
    """[α, γ, tokens a pass, speedup by the formula, speedup measured], greedy text of n ids.

    passes: {ids at once: seconds}. The formula gets the measured cost of a chunk, and c = 0.
    Plain decoding takes its turn before each, and the fastest of three tries counts.
    """
    text = [*prompt, *written(target, None, prompt, n, 0)[0]]
    found = []
    for alpha in alphas:
        for gamma in gammas:
            best = [np.inf, np.inf]
            for _ in range(3):
                for j, g in enumerate((0, gamma)):
                    log, draft = [], Knowing(text, alpha, target.arch.V,
                                             np.random.default_rng([seed, gamma]))
                    best[j] = min(best[j], written(target, draft, prompt, n, g, log)[1])
            cost = between(passes, gamma + 1) + drawing
            found.append([alpha, gamma, n / len(log),
                          speedup(alpha, gamma, 0, cost / (passes[1] + drawing)),
                          best[0] / best[1]])
    return found


def written(target, draft, prompt, n, gamma, log=None):
    """(the greedy ids, seconds), the prompt having been read."""
    target.truncate(0)
    target.read(prompt[:-1])
    draft = draft or Knowing([], 1, 1, None)
    start = time.perf_counter()
    ids = list(speculate(target, draft, prompt, n, GREEDY, gamma, log=log))
    return ids, time.perf_counter() - start
