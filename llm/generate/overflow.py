"""Day 42 · What to do when the window is full: stop, read half again, or drop the oldest.

`Reader` feeds a cache and asks a policy for room when there is none. A policy is a function
(cache, past) -> ids: it makes room in the full cache and returns what has to be read again first.
Left out: policies that look at the attention weights to choose what to forget.
"""

import numpy as np

from llm.generate.architecture import check_weights
from llm.generate.decode import check_ids, decode


def read_half_again(cache, past):
    """Forget all and read the last half window again: exact for what is left, any positions.

    A token then has T/2 … T − 1 before it. Costs one more token read for each token of the text.
    """
    cache.reset()
    return past[len(past) - cache.T_max // 2:]


def keep_first(sinks, free=1):
    """The policy that keeps the first `sinks` tokens for ever, and drops the `free` oldest others.

    sinks = 0 is a sliding window. Positions are counted within the cache, so no distance is longer
    than the window; the kept keys were computed when more could be seen, which no window of
    training shows. Rotary positions only. Raises ValueError if it could never make room.
    Source: Xiao et al. (2024), section 3.2.
    """
    if sinks < 0 or free < 1:
        raise ValueError(f"cannot keep {sinks} tokens and free {free}: at least 0 and 1")

    def policy(cache, past):
        if sinks + free > cache.T_max:
            raise ValueError(f"{sinks} kept and {free} freed are more than the cache's "
                             f"{cache.T_max} tokens")
        cache.drop(sinks, free)
        return []

    return policy


class Reader:
    """A model that reads a text of any length through one cache. `past`: the ids read so far.

    overflow: a policy, or None to stop with a ValueError and nothing changed. The policy is asked
    only when the cache is full, so the result does not depend on how the text is cut.
    """

    def __init__(self, arch, weights, cache, overflow=None):
        check_weights(arch, weights)
        cache.check_architecture(arch)
        self.arch, self.weights, self.cache, self.overflow = arch, weights, cache, overflow
        self.past = []

    def read(self, ids):
        """ids (n,) -> logits (n, V), row j for the token after ids[j]."""
        ids = [int(i) for i in check_ids(self.arch, ids)]
        if self.overflow is None:
            self.cache.check_room(len(ids))
        logits = []
        while ids:
            if not self.cache.room:
                again = self.overflow(self.cache, self.past)
                if again:
                    decode(self.arch, self.weights, again, self.cache)
            now, ids = ids[:self.cache.room], ids[self.cache.room:]
            logits.append(decode(self.arch, self.weights, now, self.cache))
            self.past += now
        return np.concatenate(logits)

    def step(self, ids):
        """ids (n,) -> logits (V,) for the token after the last: what `generate` asks for."""
        return self.read(ids)[-1]

    def reset(self):
        """Forget the text."""
        self.cache.reset()
        self.past = []
