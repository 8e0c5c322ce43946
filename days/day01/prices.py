"""Day 01 · What counting makes each character cost: one by one, and for all held-out lines."""

import math

import numpy as np

from llm.tokens.chars import code_points

LONGEST = 4       # characters before, at most
SHORTEST = 28     # characters a line must have to be priced


def price(train, words, t, k):
    """What the t-th letter of a line costs when one counts what follows the k before it.

    Returns [the k characters, the letter, times seen, times followed by the letter, bits]. A run
    that can overlap itself ("aa" in "aaa") is counted without overlaps; no run of our line can.
    """
    context = words[t - k:t]
    seen = train.count(context, 0, len(train) - 1)    # the last character has no next one
    followed = train.count(context + words[t])
    return [context, words[t], seen, followed, math.log2(seen / followed) if followed else math.inf]


def prices(train, text, k):
    """The bits of every character of `text` but the first k, by what follows its k in `train`.

    Returns float64 (len(text) − k,), infinite where the character never followed. Each run of
    k + 1 characters is one integer, and sorted integers are counted by two binary searches.
    """
    seen = count(runs(train[:-1], k), runs(text, k)[:len(text) - k])
    followed = count(runs(train, k + 1), runs(text, k + 1))
    with np.errstate(divide="ignore"):
        return np.where(followed > 0, np.log2(np.maximum(seen, 1)) - np.log2(followed), np.inf)


def runs(text, k):
    """All runs of k ASCII characters of a text, as int64 (len(text) − k + 1,); at most 9 each."""
    codes = np.minimum(code_points(text), 127).astype(np.int64)
    length = len(codes) - k + 1
    return sum((codes[j:j + length] << 7 * (k - 1 - j) for j in range(k)), np.zeros(length, int))


def count(many, asked):
    """How often each of `asked` stands among `many`."""
    many = np.sort(many)
    return np.searchsorted(many, asked, "right") - np.searchsorted(many, asked, "left")


def over_lines(train, text):
    """Price every long line of `text` at each k from 0 to 4, by its mean bits a character.

    Returns the number of lines and rows [k, median bits, share of lines that cost infinitely much,
    share of lines that cost more than with k − 1 where both are finite, share of these dearer ones
    that begin with a space]. The first four characters of a line are not priced: they are context
    for all k.
    """
    starts, indented, at = [], [], 0
    for line in text.split("\n"):
        if len(line) >= SHORTEST:
            starts.append((at + LONGEST, at + len(line)))
            indented.append(line[0] == " ")
        at += len(line) + 1
    (first, end), indented = np.array(starts).T, np.array(indented)
    rows, before = [], np.inf
    for k in range(LONGEST + 1):
        bits = np.concatenate([np.zeros(k), prices(train, text, k)])    # (len(text),)
        never = np.concatenate([[0], np.cumsum(np.isinf(bits))])
        total = np.concatenate([[0], np.cumsum(np.where(np.isinf(bits), 0, bits))])
        infinite = never[end] > never[first]                            # (lines,)
        mean = np.where(infinite, np.inf, (total[end] - total[first]) / (end - first))
        dearer = ~infinite & (mean > before)
        rows.append([k, float(np.median(mean)), float(np.mean(infinite)),
                     float(dearer.sum() / max((~infinite).sum(), 1)),
                     float(indented[dearer].mean()) if dearer.any() else 0.0])
        before = mean
    return len(starts), rows
