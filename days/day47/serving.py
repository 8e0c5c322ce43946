"""Day 47 · Streams of requests, and a clock for serving them.

The clock is the machine's while a step runs and jumps over the time in which nobody is there. So
waiting for the next request costs the reader nothing, and all latencies are what a server without
other work would have had.
"""

import time
from dataclasses import dataclass

import numpy as np

from llm.generate.paged import BlockPool
from llm.generate.request import Request
from llm.generate.scheduler import Scheduler


@dataclass(frozen=True)
class Load:
    """How requests look: prompts of `prompt` tokens, answers of about `mean`, at most `longest`."""

    prompt: tuple = (4, 24)           # from, to (exclusive), all equally likely
    mean: int = 24                    # of a geometric distribution, cut at `longest`
    longest: int = 96
    beginnings: int = 0               # so many different instructions before the prompts …
    beginning: int = 48               # … of so many tokens each


def requests(load, ids, count, rng):
    """`count` requests; prompts are pieces of the text `ids`, drawn with their seeds by `rng`."""
    piece = lambda n: ids[(at := int(rng.integers(len(ids) - n))):at + n].tolist()
    starts = [piece(load.beginning) for _ in range(load.beginnings)]
    made = []
    for _ in range(count):
        prompt = piece(int(rng.integers(*load.prompt)))
        if starts:
            prompt = starts[rng.integers(len(starts))] + prompt
        n = min(int(rng.geometric(1 / load.mean)), load.longest)
        made.append(Request(prompt, n, int(rng.integers(1 << 30))))
    return made


def poisson(rate, count, rng):
    """`count` arrival times in seconds, at `rate` a second: the gaps are exponential."""
    return np.cumsum(rng.exponential(1 / rate, count))


@dataclass(frozen=True)
class Report:
    """What a stream of requests saw, and what the pool did."""

    first: list                       # seconds from arrival to the first token, a request each
    each: list                        # seconds a token after the first, where there are two
    tokens: int                       # written
    seconds: float                    # until the last was done
    steps: int
    running: float                    # requests in a step, on the average
    crowded: float                    # the same in the steps in which others had to wait
    held: float                       # tokens of a request in a step, on the average
    unused: float                     # share of the places taken that held no token
    read: int                         # tokens that went through the model
    reread: int                       # of them for the second time
    reused: int                       # tokens not read, since their blocks were found


def serve(arch, weights, stream, arrivals, blocks, size=16, share=True, **options):
    """Serve a stream of requests; arrivals: their times, or None if all are there at once."""
    arrivals = np.zeros(len(stream)) if arrivals is None else arrivals
    pool = BlockPool(arch, blocks, size, share)
    scheduler = Scheduler(arch, weights, pool, **options)
    now, come, steps, running, held, taken, crowds, first, last = 0.0, 0, 0, 0, 0, 0, [], {}, {}
    while come < len(stream) or scheduler.running or scheduler.waiting:
        if not scheduler.running and not scheduler.waiting:
            now = max(now, arrivals[come])                          # nobody is there: jump
        began = time.perf_counter()
        while come < len(stream) and arrivals[come] <= now:
            scheduler.submit(stream[come])
            come += 1
        done = scheduler.step()
        now += time.perf_counter() - began
        for request in done:
            first.setdefault(request, now)
            last[request] = now
        steps += 1
        running += len(scheduler.running)
        crowds += [len(scheduler.running)] * bool(scheduler.waiting)
        held += sum(r.read for r in scheduler.running)
        taken += sum(len(r.table) for r in scheduler.running) * size
    tokens = [len(r.ids) for r in stream]
    return Report(
        [first[r] - at for r, at in zip(stream, arrivals)],
        [(last[r] - first[r]) / (n - 1) for r, n in zip(stream, tokens) if n > 1],
        sum(tokens), now - arrivals[0], steps, running / steps,
        float(np.mean(crowds or [running / steps])), held / running, 1 - held / taken,
        sum(r.longest - r.reused + r.reread for r in stream), sum(r.reread for r in stream),
        sum(r.reused for r in stream))


def percentiles(seconds):
    """The 50th, 95th and 99th, in ms."""
    return [1e3 * float(np.percentile(seconds, p)) for p in (50, 95, 99)]
