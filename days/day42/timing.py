"""Day 42 · The same logits, and the seconds they take: one token and one prompt."""

import time

import numpy as np

from llm.generate.architecture import Architecture, shapes
from llm.generate.cache import KVCache
from llm.generate.decode import count_flops, decode

IN_A_ROW = 3

def fastest(functions, repeats, step):
    """Seconds of the fastest call of each function, under the same keys; the rivals take turns.

    The fastest and not the median: all else that runs on the machine can only slow a call down.
    A turn is IN_A_ROW calls, since a call behind a rival finds the rival's numbers in the caches;
    what takes over a tenth of a second is called once a turn, in three turns only.
    """
    best = {}
    for i in range(repeats):
        for key, function in functions.items():
            for _ in range(IN_A_ROW if best.get(key, 1) < 0.1 else i < 3):
                start = time.perf_counter()
                function()
                best[key] = min(best.get(key, np.inf), time.perf_counter() - start)
        step()
    return best


def random_weights(arch, rng):
    """Numbers of a harmless size: what a product costs does not depend on what is multiplied."""
    return {name: (0.05 * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in shapes(arch)[0].items()}


def wide(K, T, C, L, H):
    """A rotary decoder of H query heads, K heads of keys and values, no biases."""
    return Architecture(V=1024, T=T, C=C, L=L, H=H, K=K, D=C // H, F=4 * C, rotary=10000.0)


def filled(arch, weights, rng, t):
    """A cache that has read t tokens, in chunks, so that no T × T scores are made."""
    cache, ids = KVCache(arch), rng.integers(arch.V, size=t)
    for i in range(0, t, 256):
        decode(arch, weights, ids[i:i + 256], cache)
    return cache


def one_more(arch, weights, cache):
    """Read one token, and forget it."""
    t = cache.length
    decode(arch, weights, [1], cache)
    cache.truncate(t)


def token_seconds(arch, weights, rng, t, repeats, step):
    """(with the cache, without) for the token that has t before it."""
    cache, ids = filled(arch, weights, rng, t), rng.integers(arch.V, size=t + 1)
    found = fastest({"with": lambda: one_more(arch, weights, cache),
                     "without": lambda: decode(arch, weights, ids, KVCache(arch))}, repeats, step)
    return found["with"], found["without"]


def cached_seconds(archs, rng, repeats, step):
    """Of one token at the end of a full window, for each architecture in turn."""
    rivals = {}
    for key, arch in archs.items():
        weights = random_weights(arch, rng)
        cache = filled(arch, weights, rng, arch.T - 1)
        rivals[key] = lambda a=arch, w=weights, c=cache: one_more(a, w, c)
    return fastest(rivals, repeats, step)


def score_seconds(archs, rng, repeats, step):
    """Of one token's scores in one layer: its queries times all keys of a full window."""
    rivals = {}
    for key, arch in archs.items():
        q = rng.standard_normal((arch.K, arch.H // arch.K, arch.D), dtype=np.float32)
        k = rng.standard_normal((arch.K, arch.T, arch.D), dtype=np.float32).swapaxes(1, 2)
        rivals[key] = lambda q=q, k=k: q @ k
    return fastest(rivals, repeats, step)


def prompt_seconds(arch, weights, ids, sizes, repeats, step):
    """Of reading the prompt in chunks of each size."""
    def read(size):
        cache = KVCache(arch)
        for i in range(0, len(ids), size):
            decode(arch, weights, ids[i:i + size], cache)
    return fastest({size: lambda s=size: read(s) for size in sizes}, repeats, step)


def equality(model, arch, weights, ids):
    """[tokens a chunk, largest difference from day 34's logits over the largest of these], over
    all positions of one window."""
    full, found = model(ids[None, :arch.T]).data[0], []
    for size in (1, 3, arch.T):
        cache = KVCache(arch)
        logits = [decode(arch, weights, ids[i:min(i + size, arch.T)], cache)
                  for i in range(0, arch.T, size)]
        difference = np.abs(np.concatenate(logits) - full).max()
        found.append([size, float(difference / np.abs(full).max())])
    return found


def weights_in_products(arch):
    """How many numbers of the weights one token meets."""
    return (count_flops(arch, 0, 1) - 4 * arch.L * arch.H * arch.D) // 2
