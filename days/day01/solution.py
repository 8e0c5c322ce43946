"""Day 01 · Solutions of the exercises."""

import math


def bits(text, chance):
    """The bits a text costs under a model: the sum of −log2 P(next | previous)."""
    total = 0.0
    for t, character in enumerate(text):
        p = chance(text[:t], character)
        if p == 0:
            return math.inf
        total -= math.log2(p)
    return total


def to_ranks(text, ranking):
    """Shannon's reduced text: for each character, how many wrong guesses come before it."""
    return [ranking(text[:t]).index(character) for t, character in enumerate(text)]


def from_ranks(ranks, ranking):
    """Undo `to_ranks`: the text, from its ranks and the same `ranking`."""
    text = ""
    for rank in ranks:
        text += ranking(text)[rank]
    return text
