"""Day 43 · The engine: a model packed once, and a token in one compiled call.

Packs every matrix into its format's layout, lays out the tables and the workspace that the kernel
(llm/kernels/decode.py) reads, and from then on allocates nothing: a step copies one row of the
embedding, calls, and hands out a view of the logits. Left out: several texts at once (day 47), and
what to do when the cache is full (day 42's policies, by `reset` and `prefill`).
"""

import time

import numba
import numpy as np

from llm.generate.architecture import check_weights
from llm.generate.cache import KVCache
from llm.generate.decode import check_ids
from llm.generate.layout import MATRICES, lay_out, move_together, pack
from llm.generate.prefill import prefill
from llm.kernels.barrier import MOST
from llm.kernels.decode import step as compute
from llm.kernels.matvec import FLOAT32, Format, Packed
from llm.kernels.plan import table_of

CHUNK = 256                                 # ids that prefill reads at once
FACTORS = 4, 32                             # a team that fails rests so many times its loss
LOOK = 128                                  # tokens of the team between two of one thread


class Engine:
    """A decoder of one text. weights: as in `check_weights`, a matrix float32 or `Packed`.

    format: a Format, or a dict from a pattern of names ("blocks.*.down.w", "head", "*") to one;
    the first that fits is taken. T_max: room in the cache, at most arch.T. threads: at most so
    many work on a token; None: as many as Numba has. `embed` need not be an array: indexed by
    ids (n,) it gives rows (n, C), by one id a row (C,); then there must be a `head`.
    dtype: of the cache, float32, or float16 for half the bytes.
    Raises ValueError where weights and architecture do not fit, a matrix has no format, or threads
    are below 1.
    """

    def __init__(self, arch, weights, format=FLOAT32, T_max=None, threads=None,
                 dtype=np.float32):
        check_weights(arch, weights)
        if np.dtype(dtype) not in (np.float16, np.float32):
            raise ValueError(f"an engine's cache is float16 or float32, not {np.dtype(dtype)}")
        self.arch, self.cache = arch, KVCache(arch, T_max, dtype)
        if threads is not None and threads < 1:
            raise ValueError(f"{threads} threads cannot work on a token: wanted at least 1")
        most = min(numba.config.NUMBA_NUM_THREADS, MOST)
        self.threads = min(threads or most, most)
        formats = {"*": format} if isinstance(format, Format) else format
        own = {name: pack(name, array, formats) for name, array in weights.items()}
        if "head" not in weights:
            own["head"] = pack("head", weights["embed"].T, formats)
        given = {name: own.pop(name) for name, w in weights.items() if isinstance(w, Packed)}
        move_together(own)                  # what was given as Packed stays where it is
        self.weights = given | own
        self.warm, self.alone, self.since = False, 0.0, 0
        self.until, self.factor = 0.0, FACTORS[0]
        self.plan = lay_out(arch, self.weights, self.cache, self.threads)
        self.table = table_of(self.plan)
        self.where = self.table.ctypes.data

    @property
    def length(self):
        """How many tokens have been read."""
        return self.cache.length

    def reset(self):
        """Forget the text."""
        self.cache.reset()

    def truncate(self, n):
        """Keep the first n tokens of the text; ValueError unless 0 ≤ n ≤ length."""
        self.cache.truncate(n)

    def step(self, i):
        """Read one id -> logits (V,) for the next: a view that the next step overwrites.

        Raises ValueError, with the text as it was, on what is no id of 0 … V − 1 or a full cache.
        """
        if not isinstance(i, int | np.integer):
            raise ValueError(f"{i!r} is a {type(i).__name__} and no id: wanted an integer, as the "
                             "tokenizer's encode gives them")
        if not 0 <= i < self.arch.V:
            raise ValueError(f"id {i}: the vocabulary has 0 … {self.arch.V - 1}")
        self.cache.check_room(1)
        plan, position = self.plan, self.cache.length
        plan.x[:] = self.weights["embed"][i]
        if self.arch.rotary is None:
            plan.x[:] += self.weights["positions"][position]
        start = time.perf_counter()
        together = self.alone and self.since < LOOK and start >= self.until
        threads = self.threads if together else 1
        numba.set_num_threads(threads)
        plan.sync[:] = 0
        compute(self.where, position, threads)
        self.take_stock(threads, start, time.perf_counter())
        self.cache.advance(1)
        return plan.logits[:self.arch.V]

    def take_stock(self, threads, start, end):
        """Was the team worth its while? If not, one thread goes on alone for a time.

        On a busy machine the members of a team wait for each other's cores, and in a tiny model
        for the start of a region. What a token took longer than it takes one thread is lost; the
        team then rests for `factor` times that. Each failure doubles the factor, each success takes
        1 off, within FACTORS, so that in the long run about 1/32 of the time is lost. The first
        token does not count, since it loads code and pages. One thread is timed again every LOOK
        tokens: a single disturbed token must not stand as its time for ever.
        """
        seconds = end - start
        if not self.warm:
            self.warm = True
            return
        self.since = 0 if threads == 1 else self.since + 1
        if threads == 1:
            disturbed = not self.alone or seconds < self.alone / 2
            self.alone += (seconds - self.alone) * (1 if disturbed else 0.1)
        elif seconds > self.alone:
            self.until = end + self.factor * (seconds - self.alone)
            self.factor = min(2 * self.factor, FACTORS[1])
        else:
            self.factor = max(self.factor - 1, FACTORS[0])

    def prefill(self, ids):
        """Read ids (n,), n ≥ 1 -> logits (V,) after the last, CHUNK tokens at a time.

        Raises ValueError, with the text as it was, on no or wrong ids, or more than fit.
        """
        ids = check_ids(self.arch, ids)
        self.cache.check_room(len(ids))
        for first in range(0, len(ids), CHUNK):
            part = ids[first:first + CHUNK]
            logits = (self.step(int(part[0])) if len(part) == 1
                      else prefill(self.arch, self.weights, part, self.cache))
        return logits

    def __call__(self, ids):
        """`step` for day 42's `generate`: ids (n,) -> logits (V,) after the last."""
        return self.prefill(ids) if len(ids) > 1 else self.step(int(ids[0]))

    def matrices(self):
        """The packed matrices, in the order in which a token reads them: name -> Packed."""
        names = [f"blocks.{i}.{name}.w" for i in range(self.arch.L) for name in MATRICES]
        return {name: self.weights[name] for name in [*names, "head"] if name in self.weights}

    def bytes(self):
        """What the engine holds: weights, cache and workspace."""
        arrays = [w.data if isinstance(w, Packed) else w for w in self.weights.values()]
        arrays += [part for part in self.plan if isinstance(part, np.ndarray)]
        return sum(array.nbytes for array in arrays)
