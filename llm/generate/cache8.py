"""Day 44 · A key/value cache in 8 bits: a scale for each token and head, for keys and for values.

Day 42's cache with another storage: D integers and one float32 in the place of D floats, so
(D + 4) / 4D of the bytes. A vector is rounded once, when it is written, and never again but by
`drop`, which turns keys and writes them anew. Left out: scales for channels, which keys with
outlier channels want (KIVI), since a channel's range is only known when its text is.
"""

import numpy as np

from llm.generate.cache import KVCache
from llm.quantize.int8 import quantize


class Cache8(KVCache):
    """KVCache(arch, T_max) whose numbers are −127 … 127; `read` gives float32.

    |k − read k| ≤ scale / 2 with scale = max|k| / 127 over the D numbers of a token and head.
    """

    def __init__(self, arch, T_max=None):
        super().__init__(arch, T_max)

    def allocate(self, shape, dtype):
        self.q = np.zeros((2, *shape), np.int8)                       # keys, then values
        self.scale = np.ones((2, *shape[:-1], 1), np.float32)

    def write(self, layer, k, v):
        n = k.shape[1]
        self.check_room(n)
        for j, part in enumerate((k, v)):
            new = quantize(part.astype(np.float32), axis=-1)
            self.q[j, layer, :, self.length:self.length + n] = new.q
            self.scale[j, layer, :, self.length:self.length + n] = new.scale

    def read(self, layer, more=0):
        end = self.length + more
        q, scale = self.q[:, layer, :, :end], self.scale[:, layer, :, :end]
        return tuple(q * scale)
