"""Day 05 · Looking at what a chain says: words, copies, letters; and a slower way to count."""

import re
import time
from collections import Counter
from statistics import median

import numpy as np

from llm.models.counts import level, pack

SHOWN = " \nabcdefghijklmnopqrstuvwxyz"


def speak(chain, length, seed):
    """A text of the chain, int32 (≤ length,), the same for the same seed."""
    return chain.generate(length, np.random.default_rng(seed))


def words(text):
    """The words of a text, as written: letters and apostrophes between them, three or more.

    Shorter ones do not count, or "t" and "th" (from "'t" and "th'") would be words.
    """
    return [word for word in re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)*", text) if len(word) > 2]


def known(text, lexicon):
    """The share of the words of a text that are in the lexicon, a set of words written small."""
    return float(np.mean([word.lower() in lexicon for word in words(text)]))


def names(text, lexicon):
    """Of the words that are not in the lexicon, the share that never begins with a small letter."""
    small = {word for word in words(text) if word[0].islower()}
    missing = [word.lower() for word in words(text) if word.lower() not in lexicon]
    return float(np.mean([word not in small for word in missing]))


def letters_off(texts, book):
    """The largest difference between the share of a token in all `texts` and that in the book."""
    said = np.concatenate(texts)
    many = int(max(said.max(), book.max())) + 1
    shares = [np.bincount(ids, minlength=many) / len(ids) for ids in (said, book)]
    return float(np.abs(shares[0] - shares[1]).max())


def shown(chain, tokenizer):
    """The transition matrix between the characters of SHOWN: small letters, space, new line."""
    matrix = np.zeros((len(SHOWN), len(SHOWN)))
    here = [i for i, c in enumerate(SHOWN) if c in tokenizer.characters]
    ids = tokenizer.encode("".join(SHOWN[i] for i in here))
    matrix[np.ix_(here, here)] = chain.matrix()[np.ix_(ids, ids)]
    return matrix


def pieces(hits, length):
    """Mean and standard deviation of the share of hits over pieces of equal length."""
    shares = hits[:len(hits) // length * length].reshape(-1, length).mean(axis=1)
    return [float(hits.mean()), float(shares.std())]


def slower(ids, times, v):
    """The time of a dictionary of tuples over that of sorting packed runs, both in turn."""
    ratios, plain = [], ids.tolist()
    for _ in range(times):
        start = time.perf_counter()
        Counter(zip(*(plain[i:] for i in range(6))))
        middle = time.perf_counter()
        level(pack(ids, 6, v), v)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return median(ratios)
