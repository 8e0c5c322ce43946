"""Day 01 · Exercises: the price of a text, and Shannon's reduced text."""

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


def to_ranks(text, ranking):
    """Shannon's reduced text: for each character, how many wrong guesses come before it.

    `ranking(previous)` gives all possible characters as one str, the likeliest first, after the
    text `previous`. Returns a list of len(text) ints; 0 means that the first guess was right::

        to_ranks("hello", lambda previous: "ehlo")   # [1, 0, 2, 2, 3]
    """
    raise NotImplementedError


def from_ranks(ranks, ranking):
    """Undo `to_ranks`: the text, from its ranks and the same `ranking`.

    The ranking of a position may depend on all characters before it, which you have just found::

        from_ranks([1, 0, 2, 2, 3], lambda previous: "ehlo")   # "hello"
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


def shuffled(previous):
    """A ranking of the letters a to z that depends on all of the text before."""
    rng = np.random.default_rng([ord(letter) for letter in previous] + [7])
    return "".join(rng.permutation(list("abcdefghijklmnopqrstuvwxyz")))


def knowing(text):
    """A ranking that has read `text`: its first guess is always right."""
    letters = "".join(sorted(set(text)))
    return lambda previous: text[len(previous)] + letters.replace(text[len(previous)], "")


def check_to_ranks(f):
    """The hand example, a model that knows the text, and a search as the oracle."""
    assert list(f("hello", lambda previous: "ehlo")) == [1, 0, 2, 2, 3]
    assert list(f("", lambda previous: "ehlo")) == []
    assert list(f("winter", knowing("winter"))) == [0] * 6
    oracle = [shuffled("winter"[:t]).index("winter"[t]) for t in range(6)]
    assert list(f("winter", shuffled)) == oracle


def check_from_ranks(f):
    """The hand example, and there and back under a model that looks at all of the past."""
    assert f([1, 0, 2, 2, 3], lambda previous: "ehlo") == "hello"
    assert f([], lambda previous: "ehlo") == ""
    for text in ("a", "zz", "tale", "atalesbestforwinter"):
        ranks = [shuffled(text[:t]).index(text[t]) for t in range(len(text))]
        assert f(ranks, shuffled) == text
    return "the ranks and the model together hold the whole text"
