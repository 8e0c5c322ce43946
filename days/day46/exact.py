"""Day 46 · Does the right rule write the target's texts, and would we notice a wrong one?"""

from collections import Counter

import numpy as np

from days.day46 import chi2
from llm.generate import speculative
from llm.generate.speculative import chances, speculate
from llm.generate.truncate import Chooser

OPTIONS = {"temperature": 1.0, "top_k": 3}


def checked(make_target, make_draft, prompt, seed, n, times):
    """[rule, χ², the limit that the right rule passes once in 1,000 times, samples, cells]."""
    target, choose = make_target(), Chooser(np.random.default_rng(0), **OPTIONS)

    def after(ids):
        target.truncate(0)
        return chances(choose, target.read(ids)[0], ids)

    possible = chi2.texts(after, list(prompt), n)
    expected = times * np.array(list(possible.values()))
    found, right = [], speculative.residual
    for rule, residual in (("residual max(0, p − q)", right),
                           ("p itself, a mistake", lambda p, q: p)):
        speculative.residual = residual
        try:
            seen = sample(make_target(), make_draft(), prompt, n, times,
                          np.random.default_rng([seed, 46]))
        finally:
            speculative.residual = right
        counts = np.array([seen.pop(text, 0) for text in possible])
        assert not seen, "a text that the target cannot write"
        found.append([rule, chi2.value(counts, expected), chi2.limit(len(counts) - 1, 1e-3),
                      times, len(counts)])
    return found


def sample(target, draft, prompt, n, times, rng):
    """How often each text of n ids came: {text: count}. The prompt is read once."""
    seen, choose = Counter(), Chooser(rng, **OPTIONS)
    for _ in range(times):
        target.truncate(min(target.length, len(prompt) - 1))
        seen[tuple(speculate(target, draft, prompt, n, choose, 2))] += 1
    return seen
