"""Day 25 · Exercises: GPT-2's splitting rule in plain Python, and merging one word."""

import time
import unicodedata

import numpy as np

from llm.tokens.bpe import BPE
from llm.tokens.engine.split import split
from llm.tokens.fast_bpe import FastBPE


def words_of(text):
    """GPT-2's rule in plain Python without `re`: the list of words of a str.

    The rule is 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^\\sLN]+|\\s+(?!\\S)|\\s+ with L the letters
    and N the numbers of Unicode; `unicodedata.category(c)[0]` tells them, and `WHITE` is \\s::

        words_of("it's  42!")   # ["it", "'s", " ", " 42", "!"]
    """
    raise NotImplementedError


def merge_word(ids, rank):
    """Merge one word in O(n log n): `rank` maps a pair (a, b) to its rank, and rank r makes id
    256 + r. ids is a list of ints; returns a list of ints.

    Of all pairs present the one of lowest rank is merged first, the leftmost of equals. 20,000 ids
    may take five seconds of processor time (a heap takes a tenth of one)::

        merge_word([97, 97, 97], {(97, 97): 0})   # [256, 97]
    """
    raise NotImplementedError


WHITE = frozenset("\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(code) for code in range(0x2000, 0x200B)}


def check_words_of(f):
    """The hand example, edges, and our kernel over random text."""
    assert f("it's  42!") == ["it", "'s", " ", " 42", "!"]
    assert f("") == [] and f("  ") == ["  "] and f(" \n x") == [" \n", " x"]
    rng = np.random.default_rng(0)
    samples = ["'s", "'", "ll", "'ve", " ", " ", "\n", "é", "中", "½", "9", "!", "_", "\u3000",
               "\x1c"]
    for _ in range(500):
        text = "".join(samples[i] for i in rng.integers(0, len(samples), rng.integers(0, 20)))
        assert f(text) == split(text), repr(text)
    assert unicodedata.category("_") == "Pc"      # neither a letter nor white space
    return "the words are GPT-2's"


def check_merge_word(f):
    """Day 24's encoder as the oracle, and a long word."""
    assert f([97, 97, 97], {(97, 97): 0}) == [256, 97] and f([], {}) == [] and f([5], {}) == [5]
    rng = np.random.default_rng(1)
    for letters in ("ab", "abc", "low er"):
        text = "".join(letters[i] for i in rng.integers(0, len(letters), 500))
        slow = BPE.train(text, 300)
        for start in range(0, 480, 7):
            piece = text[start:start + 30]
            assert list(f(list(piece.encode()), slow.rank)) == slow.encode(piece).tolist()
    began = time.process_time()
    whole = list(f(list(text.encode()) * 40, slow.rank))
    spent = time.process_time() - began
    assert spent < 5, f"20,000 ids took {spent:.1f} s: something is looked for anew at every merge"
    assert whole == FastBPE.from_merges(slow.merges).encode(text * 40).tolist()
    return "each word is merged by rank"
