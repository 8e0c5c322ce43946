"""Day 63 · The hands of the study: runs one after another, or in processes of one thread each.

What comes back is the same in either way; only the order differs. Left out: several machines.
"""

import math
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

from days.day63.parts import Recipe
from days.day63.trial import run


def pool(workers):
    """A context that yields map_runs(tasks, end): (task, result) pairs in the order they end."""
    return InOrder() if workers == 1 else Processes(workers)


class InOrder:
    """One after another, in this process."""

    def __enter__(self):
        return self.map

    def __exit__(self, *error):
        return False

    def map(self, tasks, end=math.inf):
        for task in tasks:
            if time.monotonic() >= end:
                return
            yield task, attempt(task)


class Processes:
    """In processes of one thread each; Ctrl-C ends those at work, and what is finished is kept."""

    def __init__(self, workers):
        self.executor = ProcessPoolExecutor(workers, get_context("spawn"))

    def __enter__(self):
        return self.map

    def __exit__(self, *error):
        self.executor.shutdown(wait=True, cancel_futures=True)
        return False

    def map(self, tasks, end=math.inf):
        futures = {self.executor.submit(attempt, task, end - time.monotonic() + time.time()): task
                   for task in tasks}
        for future in as_completed(futures):
            if (found := future.result()) is not None:
                yield futures[future], found


def compile_first(tasks):
    """Make a few steps of each task in a process that then ends, so that it compiles the kernels.

    Numba does not promise that a kernel which this process has compiled rounds as the same kernel
    does when it is loaded from the cache: we have seen RMSNorm's backward differ in the last bit.
    After this call every process loads what that one has compiled.
    """
    short = [{**task, "change": {**task["change"], "steps": 2, "warmup": 1}} for task in tasks]
    with Processes(1) as map_runs:
        for _ in map_runs(short):
            pass


def attempt(task, until=math.inf):
    """Make one run, unless it is later than `until` (seconds of time.time)."""
    if time.time() >= until:
        return None
    return run(replace(Recipe(), **task["change"]), task["rate"], task["start"], task["order"])
