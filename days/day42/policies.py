"""Day 42 · What each way of going on past a full cache costs, in nats a token on unseen text."""

from dataclasses import replace

import numpy as np

from days.harness import kernels, progress
from llm.functions.probability import log_softmax
from llm.generate import decode as decoding
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.overflow import Reader, keep_first, read_half_again
from llm.generate.rotate import turn
from llm.grad.tensor import no_grad

POLICIES = {"read half again": read_half_again, "slide": keep_first(0),
            "keep the first": keep_first(1), "keep four": keep_first(4)}


def pieces(ids, count, length):
    """`count` stretches of `length` + 1 tokens, evenly spread over ids."""
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return [ids[start:start + length + 1] for start in starts]


def surprise(logits, targets):
    """Mean nats of the targets (n,)."""
    chosen = log_softmax(logits.astype(np.float64))[np.arange(len(targets)), targets]
    return -float(chosen.mean())


def read_anew(model, piece, T, first):
    """Each token after the first + 1 from exactly the last T before it, in a window of its own."""
    windows = np.lib.stride_tricks.sliding_window_view(piece[:-1], T)[first + 1 - T:]
    logits = []
    for rows in (windows[i:i + 64] for i in range(0, len(windows), 64)):
        with no_grad(), kernels():
            logits.append(model(np.array(rows)).data[:, -1])
    return surprise(np.concatenate(logits), piece[first + 1:])


def with_policy(arch, weights, piece, T, first, policy):
    """The same targets; the piece is read once, through a cache of T tokens."""
    reader = Reader(arch, weights, KVCache(arch, T), policy)
    return surprise(reader.read(piece[:-1])[first:], piece[first + 1:])


def without_limit(arch, weights, piece, first):
    """The cache goes on growing, and positions with it, past all that training has seen."""
    longer = replace(arch, T=len(piece))
    logits = decode(longer, weights, piece[:-1], KVCache(longer))
    return surprise(logits[first:], piece[first + 1:])


def keep_first_in_text(sinks):
    """A control: as `keep_first`, but the first tokens recede as they do in the text."""
    def policy(cache, past):
        cache.drop(sinks, 1)
        first = cache.k[:, :, :sinks]
        first[...] = turn(first, np.full(sinks, -1), cache.arch.rotary)
        return []
    return policy


def attention_on(arch, weights, ids, key):
    """Mean attention weight of token `key` for the queries of the second half: an array (L, H)."""
    seen, softmax = [], decoding.softmax
    decoding.softmax = lambda scores: seen.append(softmax(scores)) or seen[-1]
    try:
        decode(arch, weights, ids, KVCache(arch))
    finally:
        decoding.softmax = softmax
    half = len(ids) // 2
    return np.array([p.reshape(arch.H, len(ids), len(ids))[:, half:, key].mean(1) for p in seen])


def beyond(model, arch, weights, parts, sizes):
    """(past, controls): nats of each policy at each size of cache, in each piece.

    past: [tokens of cache, nats read anew, {policy: nats more than that}], each a list over the
    pieces; controls: {name: nats more}, with a cache as large as the window. In every piece the
    same targets are scored: those that have more than a whole window before them.
    """
    first, past = arch.T, []
    minus = lambda found, anew: [a - b for a, b in zip(found, anew)]
    with progress(len(sizes) * (len(POLICIES) + 1), "reading past the window") as step:
        for T in sizes:
            anew, more = [read_anew(model, part, T, first) for part in parts], {}
            step()
            for name, policy in POLICIES.items():
                more[name] = minus([with_policy(arch, weights, part, T, first, policy)
                                    for part in parts], anew)
                step()
            past.append([T, anew, more])
    controls = {"no limit": [without_limit(arch, weights, part, first) for part in parts],
                "keep four, distances of the text": [
                    with_policy(arch, weights, part, arch.T, first, keep_first_in_text(4))
                    for part in parts]}
    return past, {name: minus(found, anew) for name, found in controls.items()}


def spread(values):
    """[mean, its standard error] over the pieces."""
    return [float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)]


def summed(past, controls):
    """Means and standard errors over the pieces."""
    means = lambda parts: {name: spread(values) for name, values in parts.items()}
    return [[T, float(np.mean(anew)), means(more)] for T, anew, more in past], means(controls)
