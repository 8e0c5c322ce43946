"""Day 01 · Exercises: the price of a text, and characters nobody has seen."""

import math

import numpy as np


def bits(text, chance):
    """The bits a text costs under a model: the sum of −log2 P(next | previous).

    `chance(previous, character)` gives the probability of `character` after the text `previous`
    (a str, "" at the beginning). An impossible character makes the whole text cost `math.inf`;
    the empty text costs 0.

    With a model that holds "a" and "b" equally likely, always::

        bits("abba", lambda previous, character: 0.5)   # 4.0
    """
    raise NotImplementedError


def encode_with_unknown(text, characters):
    """Text to ids, int32 (T,), where every character not in `characters` gets one common id.

    `characters` is a str, sorted and distinct, V of them: they get the ids 0 … V − 1 in order.
    All others get the id V::

        encode_with_unknown("hallo!", "ehlo").tolist()   # [1, 4, 2, 2, 3, 4]
    """
    raise NotImplementedError


def check_bits(f):
    """The hand example, an impossible letter, and the chain rule as an oracle."""
    assert f("abba", lambda previous, character: 0.5) == 4
    assert f("", lambda previous, character: 0.5) == 0
    assert f("ab", lambda previous, character: 0.0 if previous else 1.0) == math.inf
    rng = np.random.default_rng(1)
    joint = rng.random((2, 2, 2)) + 0.1    # P(x1, x2, x3) over the letters a and b
    joint /= joint.sum()

    def chance(previous, character):
        at = tuple("ab".index(letter) for letter in previous)
        return joint[at + ("ab".index(character),)].sum() / joint[at].sum()

    for text in ("aaa", "aba", "bbb"):
        at = tuple("ab".index(letter) for letter in text)
        assert math.isclose(f(text, chance), -math.log2(joint[at]))
    return "bits of a text: the chain rule holds"


def check_encode_with_unknown(f):
    """The hand example, edges, and a plain search as the oracle."""
    assert f("hallo!", "ehlo").tolist() == [1, 4, 2, 2, 3, 4]
    assert f("", "ehlo").shape == (0,) and f("hi", "").tolist() == [0, 0]
    assert f("ehlo", "ehlo").dtype == np.int32
    rng = np.random.default_rng(2)
    for _ in range(20):
        characters = "".join(sorted({chr(code) for code in rng.integers(32, 900, 40)}))
        text = "".join(chr(code) for code in rng.integers(1, 1000, 60)) + "🙂"
        oracle = [characters.index(c) if c in characters else len(characters) for c in text]
        assert f(text, characters).tolist() == oracle
    return "unknown characters share the id V"
