"""Day 01 · Solutions of the exercises."""

import math

import numpy as np


def bits(text, chance):
    """The bits a text costs under a model: the sum of −log2 P(next | previous)."""
    total = 0.0
    for t, character in enumerate(text):
        p = chance(text[:t], character)
        if p == 0:
            return math.inf
        total -= math.log2(p)
    return total


def encode_with_unknown(text, characters):
    """Text to ids, int32 (T,), where every character not in `characters` gets the id V."""
    number = {character: i for i, character in enumerate(characters)}
    return np.array([number.get(character, len(characters)) for character in text], np.int32)
