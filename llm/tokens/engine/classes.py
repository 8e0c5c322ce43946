"""Day 25 · Classes of characters: all that a splitting rule asks about a text.

A table gives every code point one of a few classes; `step` and `run` read a text through it. The
table comes from Python's `unicodedata`, so letters newer than this Python's Unicode version count
as "other" until Python is updated.
Leaves out: what the rules are; see split.py.
"""

import functools
import unicodedata

import numpy as np
from numba import njit

# Numbers of NumPy: for each int of Python that a kernel passes on, Numba compiles `run` anew.
OTHER, LETTER, NUMBER, SPACE, NEWLINE, END, UPPER, LOWER, MARK = np.arange(9)
WHITE_SPACE = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000)      # Unicode property White_Space
CASES = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER, "M": MARK}


@functools.cache
def class_table(cased=False):
    """(0x110000,) uint8: the class of every code point. Letters and numbers end before 0x40000.

    cased: capital and small letters and marks have classes of their own, and LETTER is the rest.
    """
    table = np.zeros(0x110000, dtype=np.uint8)
    kinds = {"L": LETTER, "N": NUMBER} | (CASES if cased else {})
    names = [unicodedata.category(chr(c)) for c in range(0x40000)]
    table[:0x40000] = [kinds.get(name, kinds.get(name[0], OTHER)) for name in names]
    if cased:
        table[0xE0100:0xE01F0] = MARK                       # variation selectors, the last marks
    table[list(WHITE_SPACE)] = SPACE
    table[[0x0A, 0x0D]] = NEWLINE
    return table


@njit
def code_at(data, i):
    """The code point at byte i of UTF-8, and the byte after it."""
    b = np.int64(data[i])
    if b < 0x80:
        return b, i + 1
    if b < 0xE0:
        return (b & 31) << 6 | data[i + 1] & 63, i + 2
    if b < 0xF0:
        return (b & 15) << 12 | (data[i + 1] & 63) << 6 | data[i + 2] & 63, i + 3
    return ((b & 7) << 18 | (data[i + 1] & 63) << 12 | (data[i + 2] & 63) << 6
            | data[i + 3] & 63), i + 4


@njit
def step(data, i, end, classes):
    """The class of the code point at byte i and the byte after it; (END, i) where text ends."""
    if i >= end:
        return END, i
    code, i = code_at(data, i)
    return np.int64(classes[code]), i


@njit
def run(data, i, end, classes, kind, most):
    """The end of the run of one class that starts at byte i, at most `most` code points long."""
    while most:
        if i < end and data[i] < 0x80:         # the fast path for ASCII
            if classes[data[i]] != kind:
                break
            i, most = i + 1, most - 1
            continue
        found, j = step(data, i, end, classes)
        if found != kind:
            break
        i, most = j, most - 1
    return i
