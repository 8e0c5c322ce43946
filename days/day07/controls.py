"""Day 07 · Controls: sampled entropy against exact, softmax as it stands, what long runs repeat."""

import math
import re
from collections import Counter

import numpy as np

from llm.data.stories import GRAMMAR
from llm.functions.probability import softmax
from llm.tokens.chars import code_points

SPEAKER = re.compile(r"[A-Z]{2}[A-Z ]*\.\n")      # the name above a speech: "FIRST WITCH."


def against_exact(nats):
    """Mean and standard error of sampled −log P, and how many errors it is off the exact one."""
    mean, error = float(nats.mean()), float(nats.std(ddof=1) / len(nats) ** 0.5)
    return [len(nats), mean, error, (mean - GRAMMAR.entropy()) / error]


def stability(scale, rng):
    """Rows that stay finite by the formula as it stands and by ours; our largest error."""
    z = (rng.normal(size=(1000, 100)) * scale).astype(np.float32)
    with np.errstate(all="ignore"):
        naive = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    ours, exact = softmax(z), softmax(z.astype(np.float64))
    return [scale, float(np.isfinite(naive).all(axis=-1).mean()),
            float(np.isfinite(ours).all(axis=-1).mean()), float(np.abs(ours - exact).max())]


def sources(text, k):
    """Plug-in bits a character at order k, split by what its contexts show.

    Returns [bits from contexts with an indent (two spaces), bits from other contexts that show the
    name of a speaker, bits from the rest]; they sum to the estimate. Only a context that repeats
    has any, so those that repeat are found first, by a hash that may find a few too many.
    """
    codes, places = code_points(text).astype(np.uint64), len(text) - k
    mixed = np.zeros(places, np.uint64)
    for j in range(k):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[j:j + places]
    _, inside, times = np.unique(mixed, return_inverse=True, return_counts=True)
    at = np.flatnonzero(times[inside] > 1)
    contexts = Counter(text[i:i + k] for i in at)
    bits = [0.0, 0.0, 0.0]
    for run, n in Counter(text[i:i + k + 1] for i in at).items():
        context = run[:-1]
        kind = 0 if "  " in context else 1 if SPEAKER.search(context) else 2
        bits[kind] += n / places * math.log2(contexts[context] / n)
    return bits
