"""Day 42 · The key/value cache: what attention needs of the tokens already read.

Keys are stored after rotation. Token t of the text stands at index t and position t, unless `drop`
has closed a gap. A cache that stores something else than floats (day 44) overrides `allocate`,
`write` and `read`; all else is built on these three. Left out: many texts in one cache (day 47).
"""

import numpy as np

from llm.generate.rotate import turn


class KVCache:
    """Keys and values of up to T_max tokens, in 2·L·K·T_max·D numbers; all taken at once.

    T_max: room for so many tokens, at most arch.T, which is the default. dtype: float32, float64,
    or float16, which is read as float32. It holds `length` tokens and has space for `room` more.
    Raises ValueError on another T_max or dtype. Source: Shazeer (2019), section 2.4.
    """

    def __init__(self, arch, T_max=None, dtype=np.float32):
        T_max = arch.T if T_max is None else T_max
        if not 1 <= T_max <= arch.T:
            raise ValueError(f"a cache of {T_max} tokens for a context of {arch.T}: "
                             f"T_max must be 1 … {arch.T}")
        if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
            raise ValueError(f"a cache holds float16, float32 or float64, not {np.dtype(dtype)}")
        self.arch, self.T_max, self.length = arch, T_max, 0
        self.allocate((arch.L, arch.K, T_max, arch.D), dtype)

    def allocate(self, shape, dtype):
        """Make the storage for keys and for values of this shape (L, K, T_max, D)."""
        self.k, self.v = np.zeros(shape, dtype), np.zeros(shape, dtype)

    def write(self, layer, k, v):
        """Store k and v (K, n, D) of one layer behind what is there; `advance` makes it count.

        Raises ValueError if n is more than the room.
        """
        n = k.shape[1]
        self.check_room(n)
        self.k[layer, :, self.length:self.length + n] = k
        self.v[layer, :, self.length:self.length + n] = v

    def read(self, layer, more=0):
        """Keys and values of one layer, two (K, length + more, D), as floats; `more` counts what
        was written since the last `advance`. Do not change what you get: it may be the storage."""
        end = self.length + more
        kind = np.promote_types(self.k.dtype, np.float32)
        return (self.k[layer, :, :end].astype(kind, copy=False),
                self.v[layer, :, :end].astype(kind, copy=False))

    def advance(self, n):
        """The n tokens that were written in every layer are now part of the text."""
        self.check_room(n)
        self.length += n

    def reset(self):
        """Forget everything; the storage stays."""
        self.length = 0

    def truncate(self, n):
        """Keep the first n tokens, as if no other had been read. ValueError unless n ≤ length."""
        if not 0 <= n <= self.length:
            raise ValueError(f"cannot cut a cache of {self.length} tokens to {n}: it holds "
                             f"0 … {self.length}")
        self.length = n

    def drop(self, first, count):
        """Keep the first `first` tokens, forget the next `count`, close the gap.

        What stood behind moves up by `count` places and is turned back by as many positions: two
        turns add up, R(−count) R(t) = R(t − count), so its keys are what they would have been
        there, but for one more rounding. What those tokens took from the dropped ones in the
        layers below stays in them. Moves at most 2·L·K·T·D numbers.
        Raises ValueError where there are not so many, and with learned positions, which are part
        of what the layers computed and cannot be taken out again.
        """
        arch, end = self.arch, self.length
        if first < 0 or count < 0 or first + count > end:
            raise ValueError(f"cannot drop {count} tokens after the first {first}: the cache "
                             f"holds {end}")
        if arch.rotary is None:
            raise ValueError("learned positions are inside the cached keys and values: tokens "
                             "cannot move up; reset the cache and read the last ones again")
        kept = end - first - count
        self.length = first
        for layer in range(arch.L):
            k, v = (part[:, first + count:] for part in self.read(layer, end - first))
            self.write(layer, turn(k, np.full(kept, -count), arch.rotary), v)
        self.advance(kept)

    @property
    def room(self):
        """How many tokens can still be added."""
        return self.T_max - self.length

    def bytes(self):
        """What the storage takes, measured: the sum of all arrays of this object."""
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, np.ndarray))

    def check_room(self, n):
        """ValueError unless n more tokens fit."""
        if n > self.room:
            raise ValueError(f"{n} more tokens do not fit: the cache holds {self.length} of at "
                             f"most {self.T_max}; reset or truncate it, give it a larger T_max, "
                             "or choose what to do when it is full (llm/generate/overflow.py)")

    def check_architecture(self, arch):
        """ValueError unless this cache was made for `arch`."""
        if self.arch != arch:
            ours, theirs = vars(self.arch), vars(arch)
            differs = [f"{name} {ours[name]} and not {theirs[name]}" for name in ours
                       if ours[name] != theirs[name]]
            raise ValueError(f"this cache is for another architecture ({', '.join(differs)}): "
                             "make a new one with KVCache(arch)")


def cache_bytes(arch, T, itemsize=4):
    """2·L·T·K·D numbers: the keys and the values of T tokens, in every layer."""
    return 2 * arch.L * T * arch.K * arch.D * itemsize
