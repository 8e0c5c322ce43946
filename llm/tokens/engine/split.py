"""Day 25 · Splitting text into words as GPT-2, SmolLM2 and GPT-4 do, without a regex engine.

Their rules are regular expressions over Unicode. Here each is a small state machine over UTF-8
bytes: a table gives every code point one of a few classes (classes.py), and the class of one, two
or three code points decides where a word ends.
Leaves out: rules for other tokenizers, and normalisation of any kind.
"""

import numpy as np
from numba import njit

from llm.tokens.bpe import to_bytes
from llm.tokens.engine.cased import cased_end, sign_end
from llm.tokens.engine.classes import (
    END,
    LETTER,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    class_table,
    run,
    step,
)

PLAIN, RUNS, GPT2, GPT4, CASED = range(5)
RULES = {                    # style, digits in a word (0: any), newlines at the end kept apart
    "whole": (PLAIN, 0, 0),  # no splitting: one word, as on day 24
    "gpt2": (GPT2, 0, 0),
    "smollm": (GPT2, 1, 0),  # digits one by one first, then GPT-2's rule on what is between
    "cl100k": (GPT4, 3, 0),  # as tiktoken has it now
    "llama3": (GPT4, 3, 1),  # the same pattern as first published
    "qwen2": (GPT4, 1, 1),
    "o200k": (CASED, 3, 1),  # GPT-4o
}
AT_SPACES = RUNS, 0, 0       # "whole", where no piece has a space behind another character


def rule_numbers(rule):
    """The three numbers of a rule for the kernel; ValueError names the rules there are."""
    if rule not in RULES:
        raise ValueError(f"no splitting rule {rule!r}; there are {', '.join(RULES)}")
    return RULES[rule]


def table_for(numbers):
    """The class table that a rule, given as numbers, reads texts through."""
    return class_table(numbers[0] == CASED)


@njit
def contraction(data, i, end, fold):
    """Length in bytes of 's 't 'm 'd 'll 've 're at byte i, or 0. fold: in either case."""
    if data[i] != 39 or i + 1 >= end:                                  # 39 is the apostrophe
        return 0
    a = data[i + 1] | (32 if fold else 0)
    if a == 115 or a == 116 or a == 109 or a == 100:                   # s t m d
        return 2
    if i + 2 >= end:
        return 0
    if fold and data[i + 1] == 0xC5 and data[i + 2] == 0xBF:           # ſ, the long s
        return 3
    b = data[i + 2] | (32 if fold else 0)
    if (a == 108 and b == 108) or (b == 101 and (a == 118 or a == 114)):  # ll, ve or re
        return 3
    return 0


@njit
def white_space(data, i, end, classes, style, digits, apart):
    """The end of the word that starts with white space at byte i.

    The last white space of a run belongs to the word after it, so the run stops one short.
    """
    start, last, newline = i, i, 0
    kind, j = step(data, i, end, classes)
    while kind in (SPACE, NEWLINE):
        if kind == NEWLINE:
            newline = j
        last, i = i, j
        kind, j = step(data, i, end, classes)
    at_end = kind == END or (style == GPT2 and digits and kind == NUMBER)
    if style >= GPT4 and newline and (apart or not at_end):
        return newline
    return i if at_end or last == start else last


@njit
def word_end(data, i, end, classes, style, digits, apart):
    """Where the word that starts at byte i ends; text[i:end] is all the rule may look at."""
    if style == PLAIN:
        return end
    if style == RUNS:                                      # ` *[^ ]*`
        while i < end and data[i] == 32:
            i += 1
        while i < end and data[i] != 32:
            i += 1
        return i
    if style == CASED:
        j = cased_end(data, i, end, classes)
        if j > i:
            return j + (contraction(data, j, end, style == CASED) if j < end else 0)
    elif contraction(data, i, end, style == GPT4):
        return i + contraction(data, i, end, style == GPT4)
    limit = digits if digits else end
    space = data[i] == 32
    kind, j = step(data, i, end, classes)
    after, k = step(data, j, end, classes)
    if style == GPT2:      # ` ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+`, else white space
        if space and (after < NUMBER or (after == NUMBER and not digits)):
            kind = after
            i = j
        if kind <= NUMBER:
            return run(data, i, end, classes, kind, limit if kind == NUMBER else end)
    else:                  # `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*`
        if kind == LETTER or (after == LETTER and kind != NUMBER and kind != NEWLINE):
            return run(data, j, end, classes, LETTER, end)
        if kind == NUMBER:
            return run(data, i, end, classes, NUMBER, limit)
        if kind == OTHER or (space and after == OTHER):
            if style == CASED:
                return sign_end(data, j, end, classes)
            i = run(data, j, end, classes, OTHER, end)
            return run(data, i, end, classes, NEWLINE, end)
    return white_space(data, i, end, classes, style, digits, apart)


@njit
def next_end(data, i, end, classes, rule):
    """`word_end`, with a short cut: `[ ]?[A-Za-z]+` is a word to the rules of GPT-2 and GPT-4."""
    j = i + (data[i] == 32)
    k = j
    while k < end and data[k] < 0x80 and classes[data[k]] == LETTER:
        k += 1
    if k > j and rule[0] >= GPT2 and (k == end or data[k] < 0x80):
        return k
    return word_end(data, i, end, classes, rule[0], rule[1], rule[2])


@njit(cache=True, nogil=True)
def word_ends(data, i, segment, segments, classes, rule, ends):
    """Fill `ends` with where words end, from byte i of a segment on; (words, byte, segment).

    data (N,) uint8, UTF-8; segments (S,) int64, where each independent text ends; ends (M,) int64.
    """
    n = 0
    while segment < len(segments):
        stop = segments[segment]
        while i < stop:
            if n == len(ends):
                return n, i, segment
            i = next_end(data, i, stop, classes, rule)
            ends[n] = i
            n += 1
        segment += 1
    return n, i, segment


def all_ends(data, rule):
    """Where each word of data (N,) uint8 ends: (M,) int64."""
    ends = np.empty(len(data), dtype=np.int64)
    segments = np.array([len(data)], dtype=np.int64)
    numbers = rule_numbers(rule)
    n, _, _ = word_ends(data, 0, 0, segments, table_for(numbers), numbers, ends)
    return ends[:n]


def split(text, rule="gpt2"):
    """The words of a text, for reading and tests: split("It's 42") -> ["It", "'s", " 42"]."""
    data = np.frombuffer(to_bytes(text), dtype=np.uint8)
    starts = [0, *all_ends(data, rule).tolist()]
    return [data[a:b].tobytes().decode() for a, b in zip(starts, starts[1:])]
