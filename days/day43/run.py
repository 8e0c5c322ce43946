"""Day 43 · One token, five ways; where its time goes; and what a busy machine does to it."""

import time
from dataclasses import dataclass

import numba
import numpy as np

from days.day43.busy import rates
from days.day43.models import large, readers
from days.day43.phases import barrier_seconds, layouts, phases, read_rate
from days.day43.ways import differences, seconds_in_turns, ways
from days.harness import main, print_table, progress, save, say
from llm.generate.engine import Engine
from llm.generate.stream import stream
from llm.generate.truncate import Chooser

REFERENCE = "day 42: NumPy, an operation a call"


@dataclass(frozen=True)
class Result:
    threads: int
    peak: float            # GB/s: a plain read by all threads
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
    rounds = 3 if fast else 9
    peak = read_rate(16 if fast else 512, rounds)
    barrier = barrier_seconds(threads, 1000)
    shapes = [(64, 640)] if fast else [(256, 1024), (768, 50257)]
    names, seconds, spans, worst, busy = [], [], [], 0.0, None
    with progress(2 * rounds, "timing") as tick:
        layout = layouts(shapes, threads, rng, rounds)
        for model in (readers(fast), large(fast, rng)):
            position = min(model.arch.T - 2, 100)
            functions = ways(model, position)
            worst = max(worst, *differences(functions, REFERENCE).values())
            seconds.append(seconds_in_turns(functions, rounds, step=tick))
            del functions
            time.sleep(0.1)
            engine = Engine(model.arch, model.weights)
            for i in model.ids[:position]:
                engine.step(i)
            spans.append(phases(engine, model.ids[position], position, 30 if fast else 100))
            names.append([model.name, sum(row[2] for row in spans[-1]) / 1e6, position,
                          sum(w.size for w in model.weights.values())])
            if model.tokenizer:
                page, page_rate = write(engine, model, 40 if fast else 400, seed)
    alone = Engine(model.arch, model.weights, threads=1)
    for i in model.ids[:position]:
        alone.step(i)
    busy = rates(alone, engine, model.ids[position], position, 0.2 if fast else 4.0, threads)
    return Result(threads, peak, names, seconds, worst, spans, barrier, layout, busy, threads,
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


def table(r):
    head = ["phase", "times", "MB a token", "µs a token", "GB/s", "share of the peak"]
    return [head] + [line(r, *row) for row in [*r.phases[1], whole(r.phases[1])]]


def whole(rows):
    """The sum over all phases of a token."""
    return ["the token", sum(row[1] for row in rows), sum(row[2] for row in rows),
            sum(row[3] for row in rows)]


def line(r, kind, times, size, seconds):
    rate = size / seconds / 1e9
    return [kind, times, f"{size / 1e6:.1f}", f"{1e6 * seconds:,.0f}", f"{rate:.1f}",
            f"{rate / r.peak:.0%}"]


def ways_table(r):
    """Tokens a second, by way and model."""
    return [["way", *(name for name, *_ in r.models)]] + [
        [way, *(f"{1 / s[way]:,.0f}" if way in s else "" for s in r.seconds)]
        for way in r.seconds[0]]


def show(r):
    for (name, _, position, n), rows in zip(r.models, r.phases):
        print_table([table(r)[0]] + [line(r, *row) for row in [*rows, whole(rows)]],
                    f"{name}, {n:,} parameters, token {position + 1}; peak {r.peak:.1f} GB/s")
    print_table(ways_table(r), "tokens a second; the logits differ by at most "
                f"{r.worst:.0e} of the largest")
    print(f"a barrier of {r.threads} threads: {1e9 * r.barrier[0]:.0f} ns; a parallel region: "
          f"{1e6 * r.barrier[1]:.1f} µs")
    print_table([["K", "N", "MB", "tiles, by fours", "by eights", "rows", "inputs"]] + [
        [K, f"{N:,}", f"{mb:.1f}", *(f"{x:.1f}" for x in rates)]
        for K, N, mb, *rates in r.layouts], "the same product from three layouts, GB/s")
    print_table([["machine", "one thread", "team, never resting", "engine"]] + [
        [name, *(f"{x:.1f}" for x in found)] for name, *found in r.busy],
        f"tokens a second, {r.models[1][0]}")
    print(f"{r.page}\n[{r.page_rate:,.0f} tokens a second, choosing included]")


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2), width_ratios=(1.15, 1))
    for (name, *_), rows, color in zip(r.models, r.phases, ("#c8553d", "#1b4965")):
        x = [size / times / 1e3 for _, times, size, _ in rows]
        y = [size / seconds / 1e9 for *_, size, seconds in rows]
        left.loglog(x, y, "o", color=color, ms=5, label=name)
        for (kind, *_), a, b in zip(rows, x, y):
            left.annotate(kind, (a, b), (5, -3 if kind != "down" else 5),
                          textcoords="offset points", fontsize=8, color=color)
    left.axhline(r.peak, color="#222222", lw=1)
    left.annotate(f"a plain read of memory: {r.peak:.0f} GB/s", (0.02, r.peak), (0, 4),
                  xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9)
    left.set(xlabel="kB read in one phase", ylabel="GB/s", ylim=(0.3, 5 * max(*y, r.peak)))
    left.yaxis.set_major_formatter("{x:g}")
    left.legend(loc="lower right", fontsize=9)
    names = list(r.seconds[0])
    place = np.arange(len(names))[::-1]
    for i, ((name, *_), found, color) in enumerate(zip(r.models, r.seconds,
                                                        ("#c8553d", "#1b4965"))):
        there = [j for j, way in enumerate(names) if way in found]
        right.barh(place[there] + 0.2 - 0.4 * i, [1 / found[names[j]] for j in there], 0.36,
                   color=color, label=name)
    bound = 1e3 * r.peak / r.models[1][1]
    right.axvline(bound, color="#222222", lw=1, ls=":")
    right.annotate(f"bytes allow {bound:.0f}", (bound, -0.75), (3, 0), fontsize=8,
                   textcoords="offset points")
    right.set(xscale="log", xlabel="tokens a second", ylim=(-0.9, len(names) - 0.4))
    right.set_yticks(place, [n.replace(": ", ":\n").replace(", ", ",\n") for n in names],
                     fontsize=8)
    token = whole(r.phases[1])
    fig.suptitle(f"Reading {token[2] / 1e6:.0f} MB takes {1e3 * token[3]:.1f} ms, "
                 f"{token[2] / token[3] / 1e9 / r.peak:.0%} of the rate of a plain read: "
                 "a token takes as long as its bytes", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
