"""Day 39 · Where a step's time goes, function by function, on the tape and by hand, on one thread.

Every function is replaced by itself and a stopwatch. What no stopwatch saw is the rest: Python,
and on the tape its records. So the parts of a step add up to the step.
"""

import time
from types import SimpleNamespace

import numpy as np

from days.day38.sides import RATE, batches, our_steps, sgemm_peak
from days.day39.makers import FUNCTIONS, one_thread, trainer_of
from llm.grad import ops, tensor, walk
from llm.grad.lowering import lower
from llm.kernels import by_hand as kernels
from llm.kernels.threads import settle
from llm.layers import attention, norm
from llm.models import gpt
from llm.train import adam, clip, fast, loop

GROUPS = ["products with weights", "attention", "bias and GELU", "residual and norm",
          "embedding and loss", "clipping and AdamW", "the rest"]
TAPE = {ops.linear: 0, gpt.head: 0, attention.multi_head: 1, ops.gelu: 2, norm.layernorm: 3,
        tensor.add: 3, walk.add_into: 3, ops.embedding: 4, ops.cross_entropy: 4,
        clip.squared_norm: 5, clip.scale: 5, adam.adamw_update: 5}
HAND = dict(zip(FUNCTIONS, [0, 4, 4, 3, 3, 3, 1, 1, 1, 1, 2, 2, 4])) | {
    "add_squares": 5, "adamw": 5}


class Stopwatch:
    """Seconds by group, since the last reading."""

    def __init__(self):
        self.spent = np.zeros(len(GROUPS))

    def around(self, function, group, group_of=None):
        """`function`, timed. group_of(arguments) may choose another group."""
        def call(*arguments, **options):
            began = time.perf_counter()
            found = function(*arguments, **options)
            at = group if group_of is None else group_of(arguments)
            self.spent[at] += time.perf_counter() - began
            return found
        return call

    def steps(self, step, n):
        """(n, groups): of each step; the last column is what is left of the whole."""
        found = np.zeros((n, len(GROUPS)))
        for row in found:
            self.spent[:] = 0
            began = time.perf_counter()
            step()
            whole = time.perf_counter() - began
            row[:-1], row[-1] = self.spent[:-1], whole - self.spent[:-1].sum()
        return found


def by_hand(case, watch):
    def kind(arguments):
        return 0 if arguments[0].ndim == 2 else 1

    table = {name: watch.around(getattr(kernels, name), group,
                                kind if name == "matmul" else None)
             for name, group in HAND.items()}
    trainer, source = trainer_of(case, 1, SimpleNamespace(**table)), batches(case)
    return lambda: trainer.step(*next(source), RATE)


def on_the_tape(case, watch):
    """Day 38's step with its twins timed; what has no twin is timed as it is."""
    twins = fast.twins() | {gpt.head: gpt.head.pair}
    timed = {}
    for key, group in TAPE.items():
        twin = twins[key]
        timed[key] = (tuple(watch.around(f, group) for f in twin) if isinstance(twin, tuple)
                      else watch.around(twin, group))
    step = our_steps(case, "numpy")                      # it opens no `fast()` of its own

    def call():
        with lower(fast.twins() | timed | {loop.paced: lambda kind, work, *a: work(*a)}):
            return step()
    return call


def profile(case, n):
    """{"tape": ms by group, "by hand": …} of one thread, and sgemm's GFLOP/s on it.

    The two take turns; the faster half of the steps counts, by their mean.
    """
    settle()
    one_thread()
    found = {"tape": [], "by hand": []}
    watches = {side: Stopwatch() for side in found}
    makers = {"tape": on_the_tape, "by hand": by_hand}
    steps = {side: makers[side](case, watches[side]) for side in found}
    for side, step in steps.items():
        watches[side].steps(step, 3)                     # warm up
    for _ in range(n):
        for side, step in steps.items():
            found[side] += list(watches[side].steps(step, 2))
    return {side: (1000 * faster_half(np.array(rows))).tolist()
            for side, rows in found.items()}, sgemm_peak()


def faster_half(rows):
    """The mean of the steps that are no slower than the median."""
    whole = rows.sum(axis=1)
    return rows[whole <= np.median(whole)].mean(axis=0)
