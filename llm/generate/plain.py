"""Day 52 · Day 42's decoder with the handles of day 43's engine: slow, plain, and exact.

A conversation and a stream drive either. Left out: whatever makes it fast.
"""

from llm.generate.cache import KVCache
from llm.generate.decode import decode

CHUNK = 256                # ids read at once: the scores of a chunk are (H, CHUNK, T) floats


class Plain:
    """A decoder of one text in NumPy. Errors are those of `decode` and of the cache."""

    def __init__(self, arch, weights, T_max=None):
        self.arch, self.weights, self.cache = arch, weights, KVCache(arch, T_max)

    @property
    def length(self):
        """How many tokens have been read."""
        return self.cache.length

    def reset(self):
        """Forget the text."""
        self.cache.reset()

    def truncate(self, n):
        """Keep the first n tokens."""
        self.cache.truncate(n)

    def step(self, i):
        """Read one id -> logits (V,) for the next."""
        return decode(self.arch, self.weights, [int(i)], self.cache)[-1]

    def prefill(self, ids):
        """Read ids (n,), n ≥ 1 -> logits (V,) after the last."""
        self.cache.check_room(len(ids))
        for first in range(0, max(len(ids), 1), CHUNK):
            logits = decode(self.arch, self.weights, ids[first:first + CHUNK], self.cache)
        return logits[-1]

    def read(self, ids):
        """Logits (n, V) of a text of its own: for evaluation. Forgets what was read before."""
        self.reset()
        return decode(self.arch, self.weights, ids, self.cache)
