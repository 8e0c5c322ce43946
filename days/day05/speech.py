"""Day 05 · Looking at what a chain says: its words, its copies; and a slower way to count."""

import re
import time
from collections import Counter
from statistics import median

import numpy as np

from llm.models.counts import level, pack


def words(text):
    """The words of a text: letters and the apostrophes between them, all small."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())


def known(text, lexicon):
    """The share of the words of a text that are in the lexicon."""
    return float(np.mean([word in lexicon for word in words(text)]))


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
