"""Day 45 · What a model pays for held-out text, window by window, so that two can be compared."""

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate.cache import KVCache
from llm.generate.decode import decode


def windows(arch, ids, count):
    """`count` windows of T + 1 ids, spread evenly over the text."""
    starts = np.linspace(0, len(ids) - arch.T - 1, count).astype(int)
    return [np.asarray(ids[s:s + arch.T + 1]) for s in starts]


def prices(arch, weights, parts, step=lambda: None):
    """Nats paid in each window for its second half, each token after at least T/2 others: (n,)."""
    found = []
    for ids in parts:
        logits = decode(arch, weights, ids[:-1], KVCache(arch))
        half = arch.T // 2
        z = log_softmax(logits[half:].astype(np.float64))
        found.append(-z[np.arange(len(z)), ids[1 + half:]].sum())
        step()
    return np.array(found)


def characters(tokenizer, arch, parts):
    """How many characters the second halves have, all together."""
    return sum(len(tokenizer.decode(ids[1 + arch.T // 2:])) for ids in parts)


def mean_and_error(more, count):
    """The sum of differences (n,) over `count` characters, and its standard error."""
    return more.sum() / count, more.std(ddof=1) * np.sqrt(len(more)) / count


def calibration(reader, seed, count):
    """`count` windows of T ids from the training text, at random."""
    rng, T = np.random.default_rng(seed), reader.config.T
    text, found = reader.corpus.train, []
    for start in rng.integers(0, len(text) - 8 * T, count):
        found.append(np.asarray(reader.tokenizer.encode(text[start:start + 8 * T]))[:T])
    return found
