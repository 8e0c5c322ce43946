"""Day 60 · Where does the memory of a training step go, and how much of it can be given back?"""

import time
from dataclasses import dataclass

import numpy as np

from days.day60.trial import batch, make, step, timeline
from days.harness import kernels, main, print_table, progress, save
from llm.grad.lowering import lower
from llm.layers.segment import SELECTIVE, recomputing
from llm.models.gpt import GPTConfig
from llm.models.llama import LlamaConfig
from llm.scale.memory import gpt_ledger, llama_ledger, segmented_peak

MB = 1e6
CASES = {"GPT, T 128": (GPTConfig(V=1024, T=128, C=96, L=3, H=3, rotary=True), 8),
         "GPT, T 512": (GPTConfig(V=1024, T=512, C=96, L=3, H=3, rotary=True), 2),
         "GPT, V 8,192": (GPTConfig(V=8192, T=128, C=96, L=3, H=3, rotary=True), 8),
         "GPT, 1 window of 16": (GPTConfig(V=1024, T=16, C=256, L=4, H=4, rotary=True), 1),
         "Llama, T 128": (LlamaConfig(V=1024, T=128, C=96, L=3, H=6, K=2, F=256), 8),
         "Llama, T 512": (LlamaConfig(V=1024, T=512, C=96, L=3, H=6, K=2, F=256), 2)}
REAL = {"GPT-2 small": GPTConfig(rotary=True), "SmolLM2-135M": LlamaConfig(T=2048)}
DEEP, DEEP_B = GPTConfig(V=512, T=128, C=64, L=12, H=2, rotary=True), 8
BUDGET = 96e6


@dataclass(frozen=True)
class Result:
    cases: list           # rows: name, B, T, parts in bytes (16N, activations), told, measured
    needles: list         # rows: name, the operation at the peak, by the ledger
    on_kernels: list      # rows: name, bytes measured on the kernels of day 38
    real: list            # rows: name, B, T, 16N, activations, weights of attention alone, peak
    line: list            # of the first case: [told, measured] bytes after each event
    highest: list         # … and the most during each
    names: list
    deep: list            # rows: way, peak told or None, measured, seconds, gradients equal?
    budget: float
    B: int                # the largest batch, told
    fits: float           # bytes that it needs
    bursts: float         # … and one window more


def measure(fast, seed):
    cases = dict(list(CASES.items())[3:4]) if fast else CASES
    rows, on_kernels = [], []
    with progress(2 * len(cases) + 8, "watching memory") as tick:
        for name, (config, B) in cases.items():
            told, measured = ledger_of(config, B), step(config, B)[0]
            rows.append([name, B, config.T, 4 * told.parameters, told.activations(), told.peak(),
                         measured])
            tick()
            with kernels():
                on_kernels.append([name, step(config, B)[0]])
            tick()
        config, B = next(iter(cases.values()))
        told, seen = ledger_of(config, B).timeline(), timeline(config, B)
        deep = deep_rows(fast, tick)
        config, budget = (GPTConfig(V=64, T=32, C=16, L=2, H=2, rotary=True), 1e6) if fast else (
            CASES["GPT, T 128"][0], BUDGET)
        B = largest_batch(config, budget)
        fits, bursts = (step(config, n)[0] for n in (B, B + 1))
    real = [[name, 1, config.T, 4 * (book := ledger_of(config, 1)).parameters, book.activations(),
             4 * config.L * config.H * config.T ** 2, book.peak()]
            for name, config in REAL.items()]
    needles = [[name, " ".join(ledger_of(*case).highest())] for name, case in cases.items()]
    return Result(rows, needles, on_kernels, real, [[a[2], b[2]] for a, b in zip(told, seen)],
                  [[a[3], b[3]] for a, b in zip(told, seen)],
                  [f"{name} {direction}" for name, direction, *_ in seen], deep, budget, B, fits,
                  bursts)


def ledger_of(config, B):
    return (gpt_ledger if isinstance(config, GPTConfig) else llama_ledger)(config, B)


def largest_batch(config, budget):
    """The largest B whose peak stays within the budget, by the ledger; peaks grow with B."""
    low, high = 0, 1
    while ledger_of(config, high).peak() <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ledger_of(config, middle).peak() <= budget else (low, middle)
    return low


def deep_rows(fast, tick):
    """[way, peak told, measured, seconds of a step, gradients equal?] of a deep GPT."""
    config, B = (GPTConfig(V=64, T=32, C=16, L=4, H=2, rotary=True), 2) if fast else (DEEP, DEEP_B)
    ways = {"keep all": lambda model: lower({}),
            "attention weights again": lambda model: lower(SELECTIVE)}
    told = {"keep all": ledger_of(config, B).peak()}
    for size in [n for n in (1, 2, 3, 4, 6, 12) if config.L % n == 0]:
        way = f"{size} block{'s' * (size > 1)} a segment"
        ways[way] = lambda model, size=size: recomputing(model, size)
        told[way] = segmented_peak(config, B, size)
    rows, plain = [], None
    for way, context in ways.items():
        peak, gradients = step(config, B, context)
        plain = plain or gradients
        equal = all((a == b).all() for a, b in zip(plain, gradients))
        rows.append([way, told.get(way), peak,
                     seconds(config, B, context, 1 if fast else 5), equal])
        tick(1, way)
    return rows


def seconds(config, B, context, repeats):
    """The median time of forward and backward, without tracing."""
    model, (inputs, targets), times = make(config), batch(config, B), []
    for _ in range(repeats):
        model.zero_grad()
        began = time.perf_counter()
        with context(model):
            model.loss(inputs, targets).backward()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def table(result):
    rows = [["model", "B", "16 N", "activations", "peak, told", "measured", "told / measured"]]
    for name, B, _, fixed, activations, told, measured in result.cases:
        rows.append([name, B, *(f"{x / MB:.1f}" for x in (fixed, activations, told, measured)),
                     f"{told / measured:.3f}"])
    return rows


def show(result):
    print_table(table(result), "megabytes of one training step, on NumPy")
    print_table([["a GPT of 12 blocks", "peak, told", "measured", "of all", "time", "gradients"], *(
        [way, f"{told / MB:.1f}" if told else "–", f"{peak / MB:.1f}",
         f"{peak / result.deep[0][2]:.0%}", f"{t / result.deep[0][3]:.2f}",
         "the same bits" if equal else "differ"]
        for way, told, peak, t, equal in result.deep)], "what is forgotten and made again, MB")
    print_table([["real models", "B", "T", "16 N", "activations", "of these, attention weights"], *(
        [name, B, f"{T:,}", *(f"{x / MB:,.0f}" for x in (fixed, acts, weights))]
        for name, B, T, fixed, acts, weights, _ in result.real)], "megabytes, on paper")
    print_table([["budget", "largest B", "it needs", "one more needs"],
                 [f"{result.budget / MB:.0f} MB", result.B, f"{result.fits / MB:.2f}",
                  f"{result.bursts / MB:.2f}"]])


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.0), width_ratios=[1.6, 1])
    told, seen = (np.array(column) / MB for column in zip(*result.line))
    high = np.array([row[1] for row in result.highest]) / MB
    x = np.arange(len(told))
    left.vlines(x, seen, high, color="#c2571a", lw=2.2, alpha=0.7, label="more while it runs")
    left.plot(x, seen, "o", ms=4, color="#1f5a99", label="measured after each operation")
    left.plot(x, told, color="#222222", lw=1, label="told by the ledger")
    turn = next(i for i, name in enumerate(result.names) if name.endswith("backward"))
    left.axvline(turn - 0.5, color="#999999", ls=":")
    left.set_ylim(top=left.get_ylim()[1] * 1.18)
    left.text(turn, left.get_ylim()[1] * 0.96, "backward", fontsize=9)
    left.set_xlabel("operations of a step, in order")
    left.set_ylabel("MB beyond model and optimizer")
    left.legend(fontsize=8, loc="upper left", borderaxespad=0)
    ways = [row[0].replace(" a segment", "") for row in result.deep]
    y = np.arange(len(ways))[::-1]
    right.barh(y, [row[2] / MB for row in result.deep], color="#1f5a99")
    right.plot([row[1] / MB if row[1] else np.nan for row in result.deep], y, "|", ms=12, mew=2,
               color="#c2571a", label="told")
    right.legend(fontsize=8.5)
    right.set_yticks(y, ways, fontsize=8.5)
    right.set_xlabel("peak of a step, MB")
    best = min(result.deep, key=lambda row: row[2])
    worst = max(abs(row[5] / row[6] - 1) for row in result.cases)
    fig.suptitle(f"The ledger is within {worst:.1%} of what is measured; keeping only the inputs "
                 f"of blocks\nbrings a deep GPT's peak down to {best[2] / result.deep[0][2]:.0%}",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
