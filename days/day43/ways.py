"""Day 43 · The same token by different ways, and a clock that lets no thread pool disturb another.

Between two rivals the clock sleeps: OpenBLAS's workers spin for some 20 ms after a product, and
would take a core from whoever comes next (day 38).
"""

import time
from dataclasses import replace
from statistics import median

import numpy as np
from numba import njit, prange

from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.engine import Engine
from llm.generate.prefill import prefill
from llm.grad.tensor import no_grad
from llm.kernels.matvec import FLOAT32, R, rows_float32, tiles
from llm.kernels.plan import table_of

PAUSE = 0.04                       # seconds between rivals


@njit(parallel=True, cache=True)
def matvec(data, x, y, K, count):
    """One matrix times one vector in a parallel region of its own."""
    for tile in prange(count):
        rows_float32(data, x, data, y, K, tile, tile + 1)


def one_call_a_matrix(data, x, N):
    """A `matmul` for one vector x (1, K): compiled, threaded, and no more than that."""
    y = np.empty(R * tiles(N), np.float32)
    matvec(data, x[0], y, x.shape[1], tiles(N))
    return y[None, :N]


SEPARATE = replace(FLOAT32, name="one call a matrix", matmul=one_call_a_matrix)


def ways(model, position):
    """name -> a function that reads one more token behind `position` others, and its logits."""
    arch, weights, ids = model.arch, model.weights, model.ids
    alone, team = Engine(arch, weights, threads=1), Engine(arch, weights)
    hasty = Engine(arch, team.weights)                        # the same bytes, shared
    hasty.table[:] = table_of(hasty.plan._replace(ahead=0))
    separate = Engine(arch, weights, SEPARATE)
    cache = KVCache(arch)
    decode(arch, weights, ids[:position], cache)
    for engine in (alone, team, hasty, separate):
        engine.cache.k[:], engine.cache.v[:] = cache.k, cache.v
        engine.cache.length = position
    last = ids[position]

    def numpy_decode():
        cache.truncate(position)
        return decode(arch, weights, [last], cache)[0]

    def separate_calls():
        separate.truncate(position)
        return prefill(arch, separate.weights, np.array([last]), separate.cache)

    def step(engine):
        engine.truncate(position)
        return engine.step(last)

    found = {"day 42: NumPy, an operation a call": numpy_decode,
             "compiled, a matrix a call": separate_calls,
             "engine, one thread": lambda: step(alone),
             "engine, nothing read ahead": lambda: step(hasty),
             "engine": lambda: step(team)}
    if model.gpt is None:
        return found
    window = np.array([ids[:position + 1]])

    def from_scratch():
        with no_grad():
            return model.gpt(window).data[0, -1]
    return {"day 34: the window again": from_scratch} | found


def seconds_in_turns(functions, rounds, step=lambda: None):
    """Median seconds of a call of each, taken in turns, with a pause before each."""
    at_least, pause = (0.02, PAUSE) if rounds > 3 else (0.002, PAUSE / 20)     # --fast
    calls, times = {}, {name: [] for name in functions}
    for name, function in functions.items():
        function()
        calls[name] = 1 + int(at_least / max(_seconds(function, 1), 1e-9))
    for _ in range(rounds):
        for name, function in functions.items():
            time.sleep(pause)
            function()                                        # wakes the threads
            times[name].append(_seconds(function, calls[name]))
        step()
    return {name: median(found) for name, found in times.items()}


def _seconds(function, calls):
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def differences(functions, reference):
    """name -> the largest difference from the reference's logits, over the largest of those."""
    wanted = functions[reference]().copy()
    return {name: float(np.abs(function() - wanted).max() / np.abs(wanted).max())
            for name, function in functions.items() if name != reference}
