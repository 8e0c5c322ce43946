"""Day 05 · Count every run of n tokens in a text, by sorting.

A run is packed into one 64-bit number, its tokens the digits in base V, the oldest first. Equal
runs are then equal numbers, and after a sort the runs that share a context (all tokens but the
last) are neighbours. No tree, no hash table, no dictionary.

Left out: runs with V^n > 2^64 (n > 10 for 84 characters, n > 5 for 4,096 tokens) are refused,
counts cannot be updated once made, and nothing is pruned or stored on disk.
"""

from dataclasses import dataclass

import numpy as np


def longest(vocab_size):
    """The largest n for which every run of n tokens fits in 64 bits: V^n <= 2^64.

    Of one token any number would fit; the answer is 64.
    """
    n = 1
    while vocab_size > 1 and vocab_size ** (n + 1) <= 2**64:
        n += 1
    return n if vocab_size > 1 else 64


def checked(ids, vocab_size):
    """`ids` as a one-dimensional integer array with every value in 0 … V − 1, or a ValueError."""
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids must have shape (T,), got {ids.shape}; score one text at a time")
    if ids.size == 0:
        return ids.astype(np.int64)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids must be integers, got {ids.dtype}; encode the text first")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"ids of shape {ids.shape} run from {ids.min()} to {ids.max()}, outside "
                         f"0 … {vocab_size - 1}; use the tokenizer's vocab_size")
    return ids


def pack(ids, n, vocab_size):
    """Every run of `n` tokens as one number: (T,) → (T − n + 1,) uint64, empty when T < n.

    A run of no tokens is the number 0. Raises ValueError where V^n > 2^64. With V = 10 the digits
    can be read:

    >>> pack(np.array([3, 1, 4, 1]), 2, 10)
    array([31, 14, 41], dtype=uint64)
    """
    if not 0 <= n <= longest(vocab_size):
        raise ValueError(f"runs of {n} tokens of a vocabulary of {vocab_size} do not fit in 64 "
                         f"bits; use 0 … {longest(vocab_size)} tokens")
    count = max(len(ids) - n + 1, 0)
    codes = np.zeros(count, np.uint64)
    for j in range(n):  # Horner's rule, all runs at once
        codes *= np.uint64(vocab_size)
        codes += ids[j:j + count].astype(np.uint64)
    return codes


def find(table, codes):
    """Where each code stands in the sorted `table`, and whether it is there: two (T,) arrays."""
    if len(table) == 0:
        return np.zeros(len(codes), np.int64), np.zeros(len(codes), bool)
    index = np.minimum(np.searchsorted(table, codes), len(table) - 1)
    return index, table[index] == codes


@dataclass(frozen=True)
class Level:
    """The distinct runs of n tokens: G runs ("grams") that continue C contexts of n − 1 tokens."""

    grams: np.ndarray     # (G,) uint64, sorted: a context's runs are neighbours
    counts: np.ndarray    # (G,) how often each was seen
    contexts: np.ndarray  # (C,) uint64, sorted
    first: np.ndarray     # (C + 1,) where each context's runs begin; the last entry is G

    @property
    def owner(self):
        """The context of each run, as an index into `contexts`: (G,)."""
        return np.repeat(np.arange(len(self.contexts)), np.diff(self.first))

    def per_context(self, values):
        """Sum a number per run over each context: (G,) → (C,)."""
        return np.add.reduceat(values, self.first[:-1]) if len(values) else values

    def followers(self, code):
        """The index of one context, (1,) packed, and the slice of its runs; None if unknown."""
        at, known = find(self.contexts, code)
        if not known[0]:
            return None, slice(0, 0)
        return at[0], slice(self.first[at[0]], self.first[at[0] + 1])


def level(codes, vocab_size):
    """Count packed runs (T,), given in any order with repeats: O(T log T) time.

    Takes 10 bytes a run while it sorts, or about 50 a run where most of them are distinct.
    """
    grams, counts = np.unique(codes, return_counts=True)
    contexts, first = np.unique(grams // np.uint64(vocab_size), return_index=True)
    return Level(grams, counts, contexts, np.append(first, len(grams)))

