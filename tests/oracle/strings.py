"""Day 25 · Random and adversarial strings for the tests against other tokenizers.

Engines follow different versions of Unicode, so a string never has a code point that this Python
does not know, nor a letter or number newer than Unicode 3.2, which every engine knows; marks,
symbols and emoji of any age are in.
"""

import unicodedata

import numpy as np


def usable(code):
    """Is this code point read the same by every engine, whatever its version of Unicode?"""
    category = unicodedata.category(chr(code))
    if category in ("Cn", "Cs"):
        return False
    return category[0] not in "LN" or unicodedata.ucd_3_2_0.category(chr(code)) == category


ALPHABET = [chr(code) for code in range(0x110000) if usable(code)]
SPACES = [c for c in ALPHABET if c.isspace()]
TRICKY = ["'", "'s", "'S", "'ll", "'LL", "'Ve", "'re", "'ſ", " ", "  ", "\n", "\r\n", "\r",
          "\t", "a", "Z", "é", "ß", "0", "7", "12345", "½", "Ⅷ", "٣", "中", "文字", "한글",
          "क्षि", "e\u0301", "\u200d", "\ufeff", "\u200b", "\U0001f469\u200d\U0001f467", "🇩🇪",
          "!", "...", "_", "<|endoftext|>", "<|", "|>", " the", "The", "don't", "\x00", "\x1c",
          "\x85", "\u3000", "\ufffd", "\U0010fffd"]
FIXED = ["", " ", "\n", "'", "''", "a" * 3000, " " * 3000, "\n" * 500, "ab" * 1000, "'s" * 300,
         "0" * 1000, " \n" * 300, "=" * 2000, "Hello, world", "don't you've I'LL", "\r\n\r\n  x",
         "   x", "x   ", "x \n \n y", "1 2  3   4", "٣٤٥ ۶۷", "中文" * 500, "👍🏽" * 200,
         "\t\tif x:\n"]


def strings(n=2000, seed=0):
    """The fixed ones, and n random ones of four kinds."""
    rng = np.random.default_rng(seed)
    ascii_ = [chr(c) for c in range(128)]
    made = list(FIXED)
    while len(made) < n + len(FIXED):
        kind = (TRICKY, TRICKY + SPACES, ascii_, ALPHABET)[len(made) % 4]
        made.append("".join(kind[i] for i in rng.integers(0, len(kind), rng.integers(1, 60))))
    return made


STRINGS = strings()
