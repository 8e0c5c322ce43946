"""Day 50 · Where a tile's time goes: its two products, its softmax, and what surrounds them."""

import time

import numpy as np
from numba import njit

from llm.kernels import flash
from llm.kernels.flash_tiles import load_rows, up
from llm.kernels.tiles import LANES, transposed


@njit(error_model="numpy", cache=True)
def scoring(times, s, n, k, q, Q):
    for _ in range(times):
        flash.score(s, n, k, q, Q)


@njit(error_model="numpy", cache=True)
def meeting(times, s, n, factor, m, l, correction):
    for _ in range(times):
        flash.meet(s, n, n, factor, m, l, correction)


@njit(error_model="numpy", cache=True)
def averaging(times, o, Q, correction, s, n, v):
    for _ in range(times):
        flash.average(o, Q, correction, s, n, v)


@njit(error_model="numpy", cache=True)
def loading(times, x, D, n, Q, none, rows):
    for _ in range(times):
        load_rows(x, 0, 0, D, 0, n, Q, none, none, rows)


@njit(error_model="numpy", cache=True)
def turning(x, P):
    return transposed(x, P, P)


def turning_seconds(P, rounds):
    """Turning a P × P array over, as day 38's backward does with two of them for each head."""
    x, took = np.zeros(P * P, np.float32), []
    for _ in range(rounds + 1):
        start = time.thread_time()
        turning(x, P)
        took.append(time.thread_time() - start)
    return float(np.median(took[1:]))


def tile_times(D, rounds, times):
    """[[part, FLOPs of its products, seconds]] for KEYS keys and LANES queries, on one thread.

    Seconds are that thread's own, so that other programs count little. The keys and values of a
    tile are loaded once for PANELS panels, so a panel pays that share.
    """
    n, Q, rng = flash.KEYS, up(D, 4), np.random.default_rng(0)
    def some(*shape):
        return rng.standard_normal(shape, dtype=np.float32)
    s, k, v, q, o = some(n * LANES), some(n * Q), some(n * Q), some(Q * LANES), some(Q * LANES)
    m, l, one = np.full(LANES, 9, np.float32), some(LANES), np.ones(LANES, np.float32)
    x, none, rows = some(1, n, D), np.zeros((0, 0), np.float32), some(n * Q)
    products = 2 * n * LANES * D
    calls = [["scores", products, lambda t: scoring(t, s, n, k, q, Q)],
             ["softmax", 0, lambda t: meeting(t, s, n, np.float32(.1), m, l, one)],
             ["average", products, lambda t: averaging(t, o, Q, one, s, n, v)],
             ["loading", 0, lambda t: loading(t, x, D, n, Q, none, rows)]]
    found = {name: [] for name, *_ in calls}
    for name, _, call in calls * (rounds + 1):
        o[:] = 0
        start = time.thread_time()
        call(times)
        found[name].append((time.thread_time() - start) / times)
    share = {"loading": 2 / flash.PANELS}                         # keys and values
    return [[name, count, share.get(name, 1) * float(np.median(found[name][1:]))]
            for name, count, _ in calls]
