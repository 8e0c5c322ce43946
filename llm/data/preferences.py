"""Day 56 · Pairs of answers of which one is preferred, by labellers whose taste is known exactly.

taste.py says how good an answer is: u, its utility. A labeller prefers a to b with probability
σ((u(a) − u(b)) / noise), the model of Bradley and Terry. So the best accuracy that a reward model
can reach is known. Left out: labellers who differ from one another.
"""

import math
import re
from dataclasses import dataclass

from llm.data.tasks import Task, split
from llm.data.taste import FAMILIES, FILLERS, contents, draw_prompt, fillers, utility


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. Raises ValueError if they are equal: neither is preferred."""

    prompt: str
    chosen: str
    rejected: str

    def __post_init__(self):
        if self.chosen == self.rejected:
            raise ValueError(f"both answers to {self.prompt!r} are {self.chosen!r}: a pair needs "
                             "two different ones")


def candidates(prompt, most=6, decay=0.5):
    """Every answer that our labellers are shown, as (probability, answer); they sum to 1.

    Each content is equally likely, m of 0 … `most` fillers before it has a weight of decayᵐ.
    """
    weights = [decay ** m for m in range(most + 1)]
    found = contents(prompt)
    return [(w / sum(weights) / len(found), " ".join([*FILLERS[:m], content]))
            for content in found for m, w in enumerate(weights)]


def held_out(prompt, share=0.1):
    """Does this prompt belong to the test? Day 53's hash of its sorted words decides.

    So no prompt is in both parts, 45 + 37 is where 37 + 45 is, and with the same share the sums
    tested here are those that day 53's models have never read.
    """
    words = " ".join(sorted(re.findall(r"\w+|[-+*]", prompt)))
    return bool(split([Task(words, "", "story")], share)[1])


def pairs(n, rng, noise=1.0, test=False, likes_length=0.0, families=FAMILIES):
    """n pairs with noisy labels, families in turn. noise 0: the better is always chosen.

    test: prompts of the held-out part, else of the rest. likes_length: what a filler adds to the
    utility in this labeller's eyes. Answers of equal worth to a labeller without noise: a coin.
    """
    if n < 0 or not noise >= 0:
        raise ValueError(f"pairs: n {n} and noise {noise} must be at least 0")
    found = []
    while len(found) < n:
        prompt = draw_prompt(rng, families[len(found) % len(families)])
        if held_out(prompt) != test:
            continue
        p, texts = zip(*candidates(prompt), strict=True)
        a, b = (texts[i] for i in rng.choice(len(texts), size=2, replace=False, p=p))
        gap = (utility(prompt, a) - utility(prompt, b)
               + likes_length * (fillers(a) - fillers(b)))
        found.append(Pair(prompt, *((a, b) if rng.random() < chance(gap, noise) else (b, a))))
    return found


def chance(gap, noise=1.0):
    """That a labeller prefers the first of two whose utilities are `gap` apart: σ(gap / noise)."""
    if noise == 0:
        return 0.5 + math.copysign(0.5, gap) * (gap != 0)
    half = math.exp(-abs(gap) / noise)
    return (1.0 if gap >= 0 else half) / (1 + half)
