"""Day 50 · Attention without its T × T matrix: time, memory, exactness, and what limits it."""

import time
from dataclasses import dataclass

import numba
import numpy as np

from days.day50.figure import draw
from days.day50.memory import peaks_of
from days.day50.parts import tile_times, turning_seconds
from days.day50.training import training_steps
from days.day50.ways import REST, WAYS, errors, flops, seconds
from days.harness import main, print_table, print_text, progress
from llm.kernels.threads import settle
from llm.tensors.roofline import read_all
from llm.tensors.timing import seconds_each

H, D = 2, 64


@dataclass(frozen=True)
class Result:
    H: int
    D: int
    threads: int
    sgemm: float          # GFLOP/s of a large product, all threads
    sgemm_one: float      # … and what one thread would do of it
    bandwidth: float      # GB/s read from memory
    rows: list            # [T, {way: [s forward, s backward]}, {way: bytes beyond the inputs}]
    short: list           # [T, B, {way: [s forward, s backward]}]
    lone: list            # [T, D, the same for a single head of D]
    errors: list          # [how much larger, {way: [error of out, error of dqkv]}]
    tiles: list           # [D, [[part, FLOPs, seconds]]]
    turning: list         # [T, seconds to turn a T × T array over, as day 38's backward does twice]
    steps: dict           # what training one step of a GPT takes, with day 38's and with flash


def measure(fast, seed):
    settle()
    limits = dict.fromkeys(WAYS, 512) if fast else {"NumPy": 4096, "day 38": 4096, "flash": 8192}
    lengths = [2**n for n in range(7, 10 if fast else 14)]
    rounds, rng = (1, 1) if fast else (3, 7), np.random.default_rng(seed)
    with progress(2 * len(lengths) + 6, "measuring") as tick:
        sgemm, bandwidth = limits_of_machine(rng, 256 if fast else 1536, 1 << (20 if fast else 26))
        memory = peaks_of({way: [T for T in lengths if most >= T]
                           for way, most in limits.items()}, 1, H, D)
        tick(3)
        rows = []
        for T in lengths:
            names = [way for way, most in limits.items() if most >= T]
            rows.append([T, seconds(names, 1, T, H, D, rounds[T < 2048]),
                         {way: memory[way].get(T) for way in names}])
            tick(2)
        tokens = 512 if fast else 4096
        short = [[T, tokens // T, seconds(WAYS, tokens // T, T, H, D, rounds[1])]
                 for T in (16, 32, 64, 128, 256)]
        lone = [256 if fast else 1024, 512]
        lone.append(seconds(WAYS, 1, lone[0], 1, lone[1], rounds[1]))
        tick(1)
        found = [[large, errors(large, 256 if fast else 1024, H, D, seed)]
                 for large in (1, 10, 100, 1000)]
        times = 50 if fast else 2000
        tiles = [[size, tile_times(size, rounds[1], times)] for size in (32, 64, 128)]
        turned = [[T, turning_seconds(T, rounds[0])] for T in lengths if limits["day 38"] >= T]
        tick(1)
        steps = training_steps(fast, seed)
    return Result(H, D, numba.get_num_threads(), sgemm, sgemm / numba.get_num_threads(), bandwidth,
                  rows, short, lone, found, tiles, turned, steps)


def limits_of_machine(rng, n, size):
    """GFLOP/s of an n × n product and GB/s of a read, as on day 4."""
    a, x = rng.standard_normal((n, n), dtype=np.float32), np.ones(size, np.float32)
    product = seconds_each({"": lambda: a @ a})[""]
    time.sleep(REST)
    return 2 * n**3 / product / 1e9, 4 * size / seconds_each({"": lambda: read_all(x)})[""] / 1e9


def table(result):
    rows = [["T", *(f"{way}, ms" for way in WAYS), "back: NumPy", "day 38", "flash",
             "MB: NumPy", "day 38 ", "flash "]]
    for T, times, memory in result.rows:
        rows.append([f"{T:,}", *(ms(times, way, 0) for way in WAYS),
                     *(ms(times, way, 1) for way in WAYS),
                     *(short_number(memory[way] / 1e6) if memory.get(way) else "" for way in WAYS)])
    return rows


def ms(times, way, direction):
    return short_number(1000 * times[way][direction]) if way in times else ""


def short_number(x):
    """Three digits, more or less, so that the table stays narrow."""
    return f"{x:,.{2 if x < 10 else 1 if x < 100 else 0}f}"


def show(result):
    print_table(table(result), f"{result.H} heads of {result.D}; {result.threads} threads; sgemm "
                f"{result.sgemm:.0f} GFLOP/s, reading {result.bandwidth:.1f} GB/s")
    print_table([["T", "B", *(f"{way}, ms" for way in WAYS), "back: NumPy", "day 38", "flash"]] + [
        [T, B, *(ms(times, way, i) for i in (0, 1) for way in WAYS)]
        for T, B, times in result.short], "short texts, the same number of tokens")
    T, D, times = result.lone
    print_text(f"a single head of {D}, T {T:,}, ms forward and back: " + ", ".join(
        f"{way} {ms(times, way, 0)} and {ms(times, way, 1)}" for way in WAYS))
    print_table([["queries ×", *(f"{way}: {what}" for way in WAYS for what in ("out", "gradient"))]]
                + [[large, *(f"{e:.1e}" for way in WAYS for e in found[way])]
                   for large, found in result.errors], "error, against float64")
    print_table([["D", "part of a tile", "µs", "GFLOP/s, one thread"]] + [
        [size, part, f"{1e6 * s:.2f}", f"{count / s / 1e9:.0f}" if count else ""]
        for size, parts in result.tiles for part, count, s in parts])
    last, times, _ = result.rows[-1]
    rate = flops(1, last, result.H, result.D) / times["flash"][0] / 1e9
    print(f"T = {last:,}: flash does {rate:.0f} GFLOP/s forward, "
          f"{100 * rate / result.sgemm:.0f} % of sgemm")
    print_table([["a training step", *result.steps["ways"]],
                 ["ms", *(f"{1000 * s:.0f}" for s in result.steps["seconds"])],
                 ["MB kept for the way back", *(f"{b / 1e6:.1f}" for b in result.steps["kept"])],
                 ["loss", *(f"{loss:.6f}" for loss in result.steps["losses"])]])


if __name__ == "__main__":
    main(__file__, measure, show, draw)
