"""Day 13 · The task of the run: data, training, and how close together the vowels end."""

from itertools import combinations

import numpy as np

from llm.models import vowels
from llm.models.vowels import LETTERS, VOWELS

CONTEXT, SIZE, HIDDEN, BATCH = 3, 2, 8, 8
SEEN, UNSEEN, STEPS = 600_000, 10_000, 8000


def data(corpus, seen=SEEN, unseen=UNSEEN):
    """((contexts, vowels) to learn from, the same to be judged on)."""
    contexts, after = vowels.examples(corpus.validation[:seen], CONTEXT)
    return vowels.examples(corpus.train[:seen], CONTEXT), (contexts[:unseen], after[:unseen])


def trained(rng, seen, unseen, steps, tick=lambda: None):
    """(theta, scores before, scores after, distances before): one training run."""
    theta = vowels.initial(rng, CONTEXT, SIZE, HIDDEN)
    score = lambda: vowels.evaluate(theta, *unseen, SIZE, HIDDEN)
    before, apart = score(), vowels.distances(theta, SIZE)
    vowels.train(theta, *seen, rng, steps, 1.0, SIZE, HIDDEN, BATCH, lambda nats: tick())
    return theta, before, score(), apart


def counted(seen, unseen, k):
    """(nats, share right) of a table over the last k letters of the context."""
    return vowels.counted(seen[0][:, CONTEXT - k:], seen[1], unseen[0][:, CONTEXT - k:], unseen[1])


def places(theta):
    """The two numbers of each letter, (27, 2)."""
    return np.array([[p.data for p in row] for row in vowels.split(theta, SIZE)[0]])


def closer_sets(theta):
    """How many of the 80,730 sets of five letters lie closer together than the five vowels."""
    table = places(theta)
    apart = np.linalg.norm(table[:, None] - table, axis=-1)               # (27, 27)
    sets = np.array(list(combinations(range(len(LETTERS)), len(VOWELS))))  # (80,730, 5)
    within = sum(apart[sets[:, i], sets[:, j]] for i, j in combinations(range(len(VOWELS)), 2))
    own = within[(sets == [LETTERS.index(c) for c in VOWELS]).all(axis=1)][0]
    return int((within < own).sum())


def vowel_after(seen):
    """P(vowel | the last letter) by counting, one added to both outcomes, (27,)."""
    last, after = seen[0][:, -1], seen[1]
    ones = np.bincount(last[after == 1], minlength=len(LETTERS))
    return (ones + 1) / (np.bincount(last, minlength=len(LETTERS)) + 2)


def like_distance(theta, p):
    """Rank correlation, over pairs of letters, of their distance and of how differently vowels
    follow them, p (27,)."""
    table = places(theta)
    i, j = np.triu_indices(len(LETTERS), 1)
    ranks = [np.argsort(np.argsort(x)) for x in
             (np.linalg.norm(table[i] - table[j], axis=1), np.abs(p[i] - p[j]))]
    return float(np.corrcoef(*ranks)[0, 1])


def shuffled(theta, p, rng, times):
    """How many of so many shuffles of p among the letters correlate at least as well."""
    seen = like_distance(theta, p)
    return sum(like_distance(theta, rng.permutation(p)) >= seen for _ in range(times))
