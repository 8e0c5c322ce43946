"""Day 43 · Where a token's time goes: the marks that the engine leaves, and the bytes it read.

Also the barrier by itself, and ways to lay a matrix out and to read it.
"""

import time

import numpy as np
from numba import njit, prange

from days.day43.barrier import barriers, region
from llm.kernels.barrier import WORDS, ticks
from llm.kernels.matvec import FLOAT32, R, rows_float32, tiles
from llm.tensors.roofline import read_all

KINDS = ("qkv", "attention", "project", "up, GELU", "down", "head")


@njit(cache=True)
def now():
    return ticks()


def seconds_a_tick():
    """The core's clock against Python's, over a twentieth of a second."""
    now()
    start, began = now(), time.perf_counter()
    while time.perf_counter() - began < 0.05:
        pass
    return (time.perf_counter() - began) / max(now() - start, 1)


def bytes_of(engine):
    """What each phase of one token reads, by kind: its matrices, or the cache."""
    arch, found = engine.arch, dict.fromkeys(KINDS, 0)
    names = {"qkv": "qkv", "project": "project", "up": "up, GELU", "gate": "up, GELU",
             "down": "down"}
    for name, matrix in engine.matrices().items():
        found[names.get(name.split(".")[-2], "head") if "." in name else "head"] += \
            matrix.data.nbytes
    found["attention"] = 8 * arch.L * arch.K * arch.D * engine.length
    return found


def phases(engine, last, position, rounds, tokens, megabytes):
    """(peak, rows): GB/s of a plain read, and [kind, phases, bytes a token, seconds a token].

    The memory's rate drifts, so reads and tokens take turns; medians over all of them.
    """
    tick, taken, peaks = seconds_a_tick(), [], []
    stream = np.ones(megabytes * 2**18, np.float32)
    for _ in range(rounds):
        peaks.append(read_rate(stream, 3))
        for j in range(tokens):
            engine.truncate(position)
            engine.step(last)
            if j >= tokens // 5:
                taken.append(np.diff(engine.plan.marks) * tick)
    engine.truncate(position)
    each = np.median(np.array(taken), axis=0)                       # (5L + 1,)
    size = bytes_of(engine)
    return float(np.median(peaks)), [
        [kind, engine.arch.L if i < 5 else 1, size[kind],
         float(each[i:-1:5].sum() if i < 5 else each[-1])] for i, kind in enumerate(KINDS)]


def barrier_seconds(threads, rounds):
    """(seconds of one barrier, seconds of an empty parallel region), medians of several."""
    found, out, sync = [], np.zeros(8 * threads, np.int64), np.zeros(WORDS, np.int64)
    barriers(sync, threads, 1), region(threads, out)
    n = 100 * rounds
    for _ in range(rounds):
        sync[:] = 0
        start = time.perf_counter()
        barriers(sync, threads, n)
        middle = time.perf_counter()
        for _ in range(10):
            region(threads, out)
        found.append([(middle - start) / n, (time.perf_counter() - middle) / 10])
    return np.median(found, axis=0).tolist()


def read_rate(stream, repeats):
    """GB/s of a plain read of an array by all threads (day 04): the best of several."""
    best = 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        read_all(stream)
        best = max(best, stream.nbytes / (time.perf_counter() - start) / 1e9)
    return best


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def by_tiles(data, x, y, parts):
    """W[tile, k, row]: the engine's layout."""
    n = y.size // R
    for t in prange(parts):
        rows_float32(data, x, data, y, x.size, n * t // parts, n * (t + 1) // parts)


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def by_eights(data, x, y, parts):
    """The same layout, eight inputs a turn instead of four; 8 | K."""
    w, K, n = data.view(np.float32), x.size, y.size // R
    for t in prange(parts):
        for tile in range(n * t // parts, n * (t + 1) // parts):
            out = y[tile * R:(tile + 1) * R]
            out[:] = np.float32(0)
            for k in range(0, K, 8):
                part = w[(tile * K + k) * R:(tile * K + k + 8) * R]
                x0, x1, x2, x3 = x[k], x[k + 1], x[k + 2], x[k + 3]
                x4, x5, x6, x7 = x[k + 4], x[k + 5], x[k + 6], x[k + 7]
                for r in range(R):
                    out[r] += (part[r] * x0 + part[r + R] * x1 + part[r + 2 * R] * x2
                               + part[r + 3 * R] * x3 + part[r + 4 * R] * x4
                               + part[r + 5 * R] * x5 + part[r + 6 * R] * x6
                               + part[r + 7 * R] * x7)


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def by_rows(w, x, y, parts):
    """W[row, k]: a dot product a row; 16 sums at a time, which are added up at the row's end."""
    n = y.size
    for t in prange(parts):
        for row in range(n * t // parts, n * (t + 1) // parts):
            total = np.float32(0)
            for k in range(x.size):
                total += w[row, k] * x[k]
            y[row] = total


@njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
def by_inputs(w, x, y, parts):
    """W[k, row], as `Linear` stores it: each thread adds its stretch of row k of the array to y."""
    n = y.size
    for t in prange(parts):
        first, last = n * t // parts, n * (t + 1) // parts
        out = y[first:last]
        out[:] = np.float32(0)
        for k in range(x.size):
            part = w[k, first:last]
            for j in range(out.size):
                out[j] += part[j] * x[k]


def layouts(shapes, threads, rng, rounds):
    """[K, N, MB, GB/s of each layout]: the same product from three arrangements of the numbers."""
    from days.day43.ways import seconds_in_turns
    rows = []
    for K, N in shapes:
        w, x = rng.standard_normal((K, N), np.float32), rng.standard_normal(K, np.float32)
        data, turned = FLOAT32.pack(w), np.ascontiguousarray(w.T)
        y = np.empty(R * tiles(N), np.float32)
        calls = {"tiles": lambda: by_tiles(data, x, y, threads),          # noqa: B023
                 "eights": lambda: by_eights(data, x, y, threads),        # noqa: B023
                 "rows": lambda: by_rows(turned, x, y[:N], threads),      # noqa: B023
                 "inputs": lambda: by_inputs(w, x, y[:N], threads)}       # noqa: B023
        for call in calls.values():
            call()
            assert np.allclose(y[:N], x @ w, atol=1e-2)
        found = seconds_in_turns(calls, rounds)
        rows.append([K, N, w.nbytes / 1e6, *(w.nbytes / found[k] / 1e9 for k in calls)])
    return rows
