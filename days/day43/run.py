"""Day 43 · One token, six ways; where its time goes; and what a busy machine does to it."""

import time
from dataclasses import dataclass

import numba
import numpy as np

from days.day43.busy import rates
from days.day43.models import large, narrow, readers
from days.day43.phases import barrier_seconds, layouts, phases
from days.day43.tables import draw, phase_table, table, ways_table
from days.day43.ways import differences, seconds_in_turns, ways
from days.harness import main, print_table, progress, say
from llm.generate.engine import Engine
from llm.generate.stream import stream
from llm.generate.truncate import Chooser

REFERENCE = "day 42: NumPy, an operation a call"


@dataclass(frozen=True)
class Result:
    threads: int
    peaks: list            # for each model, GB/s of a plain read between its tokens
    models: list           # [name, MB read a token at `position`, position, parameters]
    seconds: list          # for each model, {way: seconds a token}
    worst: float           # largest difference from day 42's logits, of all ways and models
    phases: list           # for each model, [kind, phases, bytes a token, seconds a token]
    barrier: list          # seconds of a barrier, of an empty parallel region
    layouts: list          # [K, N, MB, GB/s from tiles by fours, by eights, rows, inputs]
    busy: list             # [machine, tokens/s alone, by a stubborn team, by the engine]
    load: int              # other programs in the last row of `busy`
    page: str
    page_rate: float       # tokens a second of the page, choosing and printing included


def measure(fast, seed):
    rng, threads = np.random.default_rng(seed), numba.config.NUMBA_NUM_THREADS
    rounds = 2 if fast else 9
    barrier = barrier_seconds(threads, 3 * rounds)
    shapes = [(64, 640)] if fast else [(256, 1024), (768, 50257)]
    names, seconds, spans, peaks, worst = [], [], [], [], 0.0
    with progress(3 * rounds, "timing") as tick:
        layout = layouts(shapes, threads, rng, rounds)
        for make in (readers, narrow, large):
            model = make(fast, rng)
            position = min(model.arch.T - 2, 100)
            functions = ways(model, position)
            worst = max(worst, *differences(functions, REFERENCE).values())
            seconds.append(seconds_in_turns(functions, rounds, step=tick))
            del functions
            time.sleep(0.1)
            engine = Engine(model.arch, model.weights)
            for i in model.ids[:position]:
                engine.step(i)
            peak, rows = phases(engine, model.ids[position], position, rounds, 5 if fast else 20,
                                16 if fast else 256)
            peaks.append(peak)
            spans.append(rows)
            names.append([model.name, sum(row[2] for row in rows) / 1e6, position,
                          sum(w.size for w in model.weights.values())])
            if model.tokenizer:
                page, page_rate = write(engine, model, 40 if fast else 400, seed)
    alone = Engine(model.arch, engine.weights, threads=1)
    for i in model.ids[:position]:
        alone.step(i)
    busy = rates(alone, engine, model.ids[position], position, 0.1 if fast else 3.0, threads)
    return Result(threads, peaks, names, seconds, worst, spans, barrier, layout, busy, threads,
                  page, page_rate)


def write(engine, model, n, seed):
    """A page by the reader's GPT, streamed to stderr, and its tokens a second."""
    engine.reset()
    choose = Chooser(np.random.default_rng(seed), temperature=0.8, top_p=0.95)
    s = stream(engine, model.tokenizer, model.ids[:32 if model.arch.T > 64 else 4], n, choose)
    start, parts = time.perf_counter(), []
    try:
        for text in s:
            parts.append(text)
    except KeyboardInterrupt:
        say("stopped; what was written is kept")
    return "".join(parts), len(s.ids) / (time.perf_counter() - start)


def show(r):
    tables = [phase_table(*both) for both in zip(r.phases[:-1], r.peaks)] + [table(r)]
    for (name, _, position, n), peak, rows in zip(r.models, r.peaks, tables):
        print_table(rows, f"{name}, {n:,} parameters, token {position + 1}; "
                    f"peak {peak:.1f} GB/s")
    print_table(ways_table(r), "tokens a second; the logits differ by at most "
                f"{r.worst:.0e} of the largest")
    print(f"a barrier of {r.threads} threads: {1e9 * r.barrier[0]:.0f} ns; a parallel region: "
          f"{1e6 * r.barrier[1]:.1f} µs")
    print_table([["K", "N", "MB", "tiles, by fours", "by eights", "rows", "inputs"]] + [
        [K, f"{N:,}", f"{mb:.1f}", *(f"{x:.1f}" for x in rates)]
        for K, N, mb, *rates in r.layouts], "the same product from three layouts, GB/s")
    print_table([["machine", "one thread", "team, never resting", "engine"]] + [
        [name, *(f"{x:.1f}" for x in found)] for name, *found in r.busy],
        f"tokens a second, {r.models[-1][0]}")
    print(f"{r.page}\n[{r.page_rate:,.0f} tokens a second, choosing included]")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
