"""Day 46 · A text that a model reads in chunks and can unread: what speculation asks of a model.

    read(ids, rows) -> logits (rows, V) after each of the last `rows` ids; use them before the next
    truncate(n)        keep the first n ids
    length, room       how many ids have been read, and how many more fit

Two models speak it here: day 42's plain decoder and day 43's compiled engine. Left out: sliding
when the window is full.
"""

import numpy as np

from llm.generate.cache import KVCache
from llm.generate.decode import check_ids, decode
from llm.generate.prefill import prefill


class Plain:
    """Day 42's decoder. arch, weights: as in `check_weights`; T_max, dtype: of its cache."""

    def __init__(self, arch, weights, T_max=None, dtype=np.float32):
        self.arch, self.weights, self.cache = arch, weights, KVCache(arch, T_max, dtype)

    @property
    def length(self):
        """How many ids have been read."""
        return self.cache.length

    @property
    def room(self):
        """How many more fit."""
        return self.cache.room

    def truncate(self, n):
        """Keep the first n ids."""
        self.cache.truncate(n)

    def read(self, ids, rows=1):
        """ids (n,) with n ≥ rows ≥ 1 -> logits (rows, V). ValueError as `decode`'s."""
        check_rows(ids, rows)
        return decode(self.arch, self.weights, ids, self.cache)[-rows:]


class Compiled(Plain):
    """Day 43's engine: one id by its compiled step, several by its products over a chunk."""

    def __init__(self, engine):
        self.engine, self.arch, self.cache = engine, engine.arch, engine.cache

    def read(self, ids, rows=1):
        """As Plain's. What comes before the last `rows` ids is read first, as a prompt."""
        ids = check_ids(self.arch, ids)
        self.cache.check_room(len(ids))
        check_rows(ids, rows)
        before = len(ids) - rows
        if before:
            self.engine.prefill(ids[:before])
        return self.engine.step(int(ids[-1]))[None] if rows == 1 else self.chunk(ids[before:])

    def chunk(self, ids):
        """Checked ids (n,), n ≥ 2 -> logits (n, V), each matrix read once for all of them."""
        return prefill(self.arch, self.engine.weights, ids, self.cache, every=True)


def check_rows(ids, rows):
    """ValueError unless so many of the ids can have logits."""
    if not 1 <= rows <= len(ids):
        raise ValueError(f"logits after the last {rows} of {len(ids)} ids: rows must be 1 … "
                         f"{len(ids)}")
