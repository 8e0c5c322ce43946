"""Day 26 · BERT's text preparation: clean and fold a text, then cut it into words and signs.

`Bert.normalize` drops control characters, turns all white space into spaces, puts spaces around
Chinese characters, takes accents off and lowers letters; each step can be switched off. `words`
cuts at white space and makes every punctuation sign a word of its own. What comes out equals
Hugging Face's BertNormalizer and BertPreTokenizer wherever the two versions of Unicode agree.
Leaves out: where in the original text a word stood.
"""

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
from numba import njit

from llm.tokens.bpe import to_bytes
from llm.tokens.chars import code_points
from llm.tokens.engine.classes import WHITE_SPACE, run, step

LETTERS, ALONE, BLANK = range(3)          # in a word; a word by itself; between words
CONTROL, CHINESE, MARK = 4, 8, 16         # and what the normalizer asks about, as bits
BITS = {"Mn": MARK, **dict.fromkeys(("Cc", "Cf", "Co"), CONTROL),
        **dict.fromkeys(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"), ALONE)}
ASCII_SIGNS = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"     # also $ + < = > ^ ` | ~, by tradition
CHINESE_BLOCKS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF),
                  (0x2A700, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F))
# 0x2B920 is Hugging Face's; BERT's own code has 0x2B820, where that block of Unicode begins.
CONTROL_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
TO_SPACE = bytes.maketrans(b"\t\n\r", b"   ")


@functools.cache
def code_table():
    """(0x110000,) uint8: bits of every code point. Unassigned ones have none, so they stay."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for first, last in ((0, 0x40000), (0xE0000, 0xE1000)):           # planes 4 to 13 are empty
        table[first:last] = [BITS.get(unicodedata.category(chr(c)), 0) for c in range(first, last)]
    table[0xF0000:] = CONTROL                                        # for private use
    table[[*range(0xFFFFE, 0x100000), *range(0x10FFFE, 0x110000)]] = 0
    table[list(ASCII_SIGNS)] = ALONE
    table[0xFFFD] = CONTROL                                          # what is left of broken text
    table[list(WHITE_SPACE)] |= BLANK
    table[[9, 10, 13]] = BLANK                                       # white space first of all
    for first, last in CHINESE_BLOCKS:
        table[first:last + 1] |= CHINESE
    return table


@functools.cache
def class_table():
    """(0x110000,) uint8: LETTERS, ALONE or BLANK."""
    return code_table() & 3


@dataclass(frozen=True)
class Bert:
    """Which steps are taken."""

    lower: bool = True
    strip_accents: bool | None = None     # None: as `lower` says
    clean: bool = True                    # drop control characters; white space becomes spaces
    chinese: bool = True                  # each Chinese character is a word

    def prepare(self, text):
        """str -> the UTF-8 bytes of the normalised text. ValueError as `to_bytes` has it."""
        data = to_bytes(text)
        if len(data) == len(text):                         # ASCII has no accents, nothing Chinese
            data = data.translate(TO_SPACE, CONTROL_BYTES) if self.clean else data
            return data.lower() if self.lower else data
        codes = code_points(text)                          # (T,)
        bits = code_table()[codes]
        if self.clean:
            kept = bits & CONTROL == 0
            codes, bits = codes[kept], bits[kept]
            codes = np.where(bits & 3 == BLANK, np.uint32(32), codes)
        if self.chinese and (bits & CHINESE).any():
            at = np.flatnonzero(bits & CHINESE)
            codes = np.insert(codes, np.concatenate([at, at + 1]), 32)
        if self.lower if self.strip_accents is None else self.strip_accents:
            codes = code_points(unicodedata.normalize("NFD", to_str(codes)))   # é -> e and U+0301
            codes = codes[code_table()[codes] & MARK == 0]
        text = to_str(codes)
        if self.lower:                     # a Σ at a word's end is σ here; Python would write ς
            text = text.replace("Σ", "σ").lower()
        return text.encode()

    def normalize(self, text):
        """The text as the vocabulary sees it: "Ça va?" -> "ca va?"."""
        return self.prepare(text).decode()

    def words(self, text):
        """The words of a text, normalised: "Don't stop!" -> ["don", "'", "t", "stop", "!"]."""
        data = np.frombuffer(self.prepare(text), dtype=np.uint8)
        ends = word_ends(data, np.array([len(data)], dtype=np.int64)).tolist()
        spans = [data[a:b].tobytes().decode() for a, b in zip([0, *ends], ends)]
        return [word for word in spans if class_table()[ord(word[0])] != BLANK]


def to_str(codes):
    """Code points (T,) -> str."""
    return codes.astype("<u4").tobytes().decode("utf-32-le")


@njit(cache=True, nogil=True)
def cut(data, segments, classes, ends):
    """Fill `ends` with where words, signs and runs of white space end; returns how many.

    data (N,) uint8, UTF-8; segments (S,) int64, where each independent text ends; ends (N,) int64.
    """
    n = i = 0
    for stop in segments:
        while i < stop:
            kind, i = step(data, i, stop, classes)
            if kind != ALONE:
                i = run(data, i, stop, classes, kind, stop)
            ends[n] = i
            n += 1
    return n


def word_ends(data, segments):
    """Where each word, sign and run of white space of data (N,) uint8 ends: (M,) int64."""
    ends = np.empty(len(data), dtype=np.int64)
    return ends[:cut(data, segments, class_table(), ends)]
