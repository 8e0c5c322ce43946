"""Day 25 · The words of o200k, GPT-4o's rule: a capital letter behind a small one begins a word.

Its two alternatives for words are `P?[UB]*[SB]+` and `P?[UB]+[SB]*`, tried in this order. P is any
one sign, mark or blank, U a capital letter, S a small one, and B a mark or a letter without case,
which goes with both. A regex engine would find the ends by trying; here two observations do.
Leaves out: the rest of the rule, which is GPT-4's; see split.py.
"""

from numba import njit

from llm.tokens.engine.classes import LETTER, LOWER, MARK, NEWLINE, OTHER, SPACE, UPPER, run, step

SLASH = 47


@njit
def small_end(data, i, end, classes):
    """The end of `[UB]*[SB]+` at byte i, or i where it does not fit.

    [UB]* first takes all it can. If a small letter follows, [SB]+ goes on from there. If not,
    [UB]* gives back until [SB]+ finds a B to stand on: the last one ends the word.
    """
    last, (kind, j) = i, step(data, i, end, classes)
    while kind in (UPPER, LETTER, MARK):
        i = j
        if kind != UPPER:
            last = i
        kind, j = step(data, i, end, classes)
    if kind != LOWER:
        return last
    while kind in (LOWER, LETTER, MARK):
        i = j
        kind, j = step(data, i, end, classes)
    return i


@njit
def cased_end(data, i, end, classes):
    """The end of the word of letters and marks that starts at byte i, or i where there is none.

    Where `[UB]*[SB]+` does not fit there is neither S nor B, so `[UB]+[SB]*` takes capitals only.
    """
    kind, j = step(data, i, end, classes)
    first = j if kind in (OTHER, SPACE, MARK) else i     # with P, or without
    stop = small_end(data, first, end, classes)
    if stop == first:
        first, stop = i, small_end(data, i, end, classes)
    if stop == first:
        first = j if kind in (OTHER, SPACE) else i
        stop = run(data, first, end, classes, UPPER, end)
    return stop if stop > first else i


@njit
def sign_end(data, i, end, classes):
    """The end of `[^\\s\\p{L}\\p{N}]*[\\r\\n/]*` at byte i."""
    kind, j = step(data, i, end, classes)
    while kind in (OTHER, MARK):
        i = j
        kind, j = step(data, i, end, classes)
    while i < end and (data[i] == SLASH or classes[data[i]] == NEWLINE):
        i += 1
    return i
