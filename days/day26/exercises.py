"""Day 26 · Exercises over all cuts of a text; `python -m days check 26` grades them."""

import itertools
import math

import numpy as np


def fewest_pieces(text, known):
    """A cut of text into as few pieces as possible: a list of str, or None where there is no cut.

    known is a set of str. Where several cuts are equally short any of them will do. O(n · M) for n
    characters and pieces of at most M: half a second is enough for 20,000 characters::

        fewest_pieces("abcde", {"abc", "ab", "cde", "d", "e"})   # ["ab", "cde"]
    """
    raise NotImplementedError


def cut_entropy(word, scores):
    """How undecided a word is among its cuts: the entropy of p(y)/Z over the cuts y, in nats.

    scores {piece: log probability}; every word given has a cut. Words of thousands of characters
    must work, so no probability of a whole cut may be formed::

        cut_entropy("aba", {"a": log(1/2), "b": log(1/4), "ab": log(1/8), "ba": log(1/8)})  # log 3
    """
    raise NotImplementedError


def exact_loss(words, scores, piece):
    """What the log likelihood of words {str: count} loses when `piece` goes, in nats.

    scores {piece: log probability} stay as they are for the other pieces; a piece may be used
    several times in one cut. inf where a word has no other cut::

        exact_loss({"aba": 3}, {"a": log(1/2), "b": log(1/4), "ab": log(1/8), "ba": log(1/8)}, "ab")
        # 3 log(3/2) = 1.216
    """
    raise NotImplementedError


def every_cut(text, known):
    """All cuts of a text into known pieces: each choice of borders is tried, 2^(n − 1) of them."""
    for borders in itertools.product((False, True), repeat=max(len(text) - 1, 0)):
        places = [0, *(i for i, border in enumerate(borders, 1) if border), len(text)]
        cut = [text[a:b] for a, b in itertools.pairwise(places) if b > a]
        if all(piece in known for piece in cut):
            yield cut


def samples(seed, n):
    """n pairs of a random text and {piece: log probability} that holds its letters."""
    rng = np.random.default_rng(seed)
    word = lambda most: "".join("abé"[i] for i in rng.integers(0, 3, rng.integers(1, most)))  # noqa: E731
    for _ in range(n):
        names = sorted({*"abé", *(word(5) for _ in range(12))})
        yield word(11), dict(zip(names, np.log(rng.dirichlet(np.ones(len(names)))).tolist()))


HAND = {"a": math.log(1 / 2), "b": math.log(1 / 4), "ab": math.log(1 / 8), "ba": math.log(1 / 8)}


def check_fewest_pieces(f):
    """Where the longest match wastes or fails, all cuts of random texts, and a long one."""
    assert f("abcde", {"abc", "ab", "cde", "d", "e"}) == ["ab", "cde"]
    assert f("abc", {"a", "ab", "bc"}) == ["a", "bc"], "the longest match ab leads nowhere"
    assert f("", {"a"}) == [] and f("ab", {"a"}) is None and f("ba", {"a", "ab"}) is None
    for text, scores in samples(0, 150):
        known = set(scores) - ({"b"} if len(text) % 2 else set())
        least = min(map(len, every_cut(text, known)), default=None)
        found = f(text, known)
        if least is None:
            assert found is None, f"{text!r} has no cut into {sorted(known)}, but {found} came"
        else:
            assert found is not None and "".join(found) == text and known.issuperset(found), found
            assert len(found) == least, f"{text!r}: {found}, but {least} pieces are enough"
    assert len(f("ab" * 10_000, {"a", "b", "ba", "bab"})) == 10_000
    return "no cut is shorter"


def check_cut_entropy(f):
    """The hand example, all cuts of random words, and a long word whose cuts are all alike."""
    assert abs(f("aba", HAND) - math.log(3)) < 1e-12 and abs(f("b", HAND)) < 1e-12
    for word, scores in samples(1, 100):
        p = np.array([math.exp(sum(scores[piece] for piece in cut))
                      for cut in every_cut(word, scores)])
        p /= p.sum()
        expected, found = -float(p @ np.log(p)), f(word, scores)
        assert abs(found - expected) < 1e-9, f"{word!r}: {found}, not {expected}"
    golden = (1 + math.sqrt(5)) / 2                # n letters of a, aa: Fibonacci's number of cuts
    found = f("a" * 3000, {"a": -2.0, "aa": -4.0})
    expected = 3001 * math.log(golden) - math.log(5) / 2
    assert abs(found - expected) < 1e-6, f"3,000 letters: {found}, not {expected}"
    return "the entropy is that of all cuts"


def check_exact_loss(f):
    """The hand example, all cuts of random words, a piece used often, one that is needed."""
    assert abs(f({"aba": 3}, HAND, "ab") - 3 * math.log(3 / 2)) < 1e-12
    assert f({"aba": 3, "b": 1}, HAND, "b") == math.inf
    for word, scores in samples(2, 60):
        words = {word: 2, word[::-1] + "ab": 3}
        for piece in scores:
            rest, expected = {other: s for other, s in scores.items() if other != piece}, 0.0
            for text, count in words.items():
                whole, left = (math.fsum(math.exp(sum(scores[p] for p in cut))
                                         for cut in every_cut(text, known))
                               for known in (scores, rest))
                expected += count * (math.log(whole / left) if left else math.inf)
            found = f(words, scores, piece)
            assert found == expected or abs(found - expected) < 1e-9, (
                f"{words} without {piece!r}: {found}, not {expected}")
    long = f({"ab" * 1000: 1}, {"a": -2.0, "b": -2.0, "ab": -4.0}, "ab")
    assert abs(long - 1000 * math.log(2)) < 1e-6, f"2,000 letters: {long}, not 1000 log 2"
    return "the loss is exact"
