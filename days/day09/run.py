"""Day 09 · Gradient descent walks to the counted bigram, and how many steps it takes."""

import time
from dataclasses import dataclass

import numpy as np

from days.day09 import rates
from days.day09.rates import CLOSE, LOOK, MULTIPLES
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.probability import kl, softmax
from llm.models import bigram
from llm.tokens.chars import CharTokenizer


@dataclass(frozen=True)
class Result:
    corpus: str
    vocab_size: int
    pairs: int
    uniform: float            # nats, of the table of zeros
    counted: float            # nats, of the counted bigram
    safe_rate: float
    names: list               # of the four ways to choose the step
    steps: list               # to come within CLOSE of counting, None if it did not
    steps_twice: int          # to come there with twice the safe rate of each row
    predicted: list           # the same from the 1/t law, None where it does not apply
    with_start: list          # by way: the gap at LOOK by the law that knows the start
    gaps: list                # by way: [[step, nats above counting], ...]
    contexts: list            # the characters
    shares: list              # how often each occurs as a context
    context_gaps: list        # by way (one rate, a rate per row): KL(counted || learned) at LOOK
    pairs_over_counts: float  # time of one gradient, pair by pair / from counts, same pairs
    descent_over_count: float  # time of the slowest descent that arrived / of counting
    edge: float               # largest rate that is stable at the counted table / safe rate
    edge_context: str         # the context whose curvature decides it
    grid: list                # rows: multiple of the safe rate, steps, gap / what the law says
    beyond: list              # at 32 times, at LOOK: rows beyond their edge, gaps, law


def measure(fast, seed):
    """Count, then descend four times from zero. Nothing is random: `seed` changes nothing."""
    corpus = load_or_default("shakespeare", say)
    text = corpus.train[:200_000] if fast else corpus.train
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(text)
    started = time.perf_counter()
    counts = bigram.count_pairs(ids, tokenizer.vocab_size)
    counting = time.perf_counter() - started
    safe = float(bigram.row_rates(counts).min())
    ways = [("one safe rate", safe, 2_000 if fast else 200_000),
            ("8 times that", 8 * safe, 2_000 if fast else 50_000),
            ("32 times that", 32 * safe, 1_000 if fast else 10_000),
            ("a safe rate per row", bigram.row_rates(counts), 20_000)]
    floor, share = bigram.counted_loss(counts), counts.sum(axis=1) / counts.sum()
    steps, gaps, tables, seconds = [], [], [], []
    with progress(len(ways) + len(MULTIPLES), "descending") as advance:
        for name, rate, limit in ways:
            started = time.perf_counter()
            arrived, trace, table = rates.follow(counts, floor, rate, limit)
            seconds.append(time.perf_counter() - started)
            steps.append(arrived)
            gaps.append(trace)
            tables.append(table)
            advance(1, name)
        grid = rates.around(counts, floor, safe, 300 if fast else 5_000, advance)
    context, edge = rates.edge_of_stability(counts)
    seen = share > 0
    targets = counts[seen] / counts[seen].sum(axis=1, keepdims=True)
    slowest = max(s for s, n in zip(seconds, steps) if n is not None)
    return Result(
        corpus=corpus.name, vocab_size=tokenizer.vocab_size, pairs=len(ids) - 1,
        uniform=float(np.log(tokenizer.vocab_size)), counted=floor, safe_rate=safe,
        names=[name for name, _, _ in ways], steps=steps, gaps=gaps,
        predicted=[bigram.late_gap(counts, rate) / CLOSE if name != "32 times that" else None
                   for name, rate, _ in ways],
        steps_twice=rates.follow(counts, floor, 2 * bigram.row_rates(counts), 20_000)[0],
        with_start=[rates.gap_with_start(counts, rate, LOOK) for _, rate, _ in ways],
        beyond=rates.beyond_the_edge(counts, tables[2], 32 * safe, LOOK),
        contexts=[c for c, s in zip(tokenizer.characters, seen) if s], shares=share[seen].tolist(),
        context_gaps=[kl(targets, softmax(tables[i][seen])).tolist() for i in (0, 3)],
        pairs_over_counts=rates.gradient_times(ids[:50_001], tokenizer.vocab_size),
        descent_over_count=slowest / counting, edge=edge / safe, grid=grid,
        edge_context=tokenizer.characters[context])


def table(result):
    """Four ways to choose the step size: nats above counting at three steps, steps needed."""
    rows = [["step size", "at 10", "at 100", "at 1,000", f"to {CLOSE:g}", "predicted"]]
    for name, trace, steps, predicted in zip(result.names, result.gaps, result.steps,
                                             result.predicted):
        rows.append([name, *(f"{dict(trace)[s]:.4f}" for s in (10, 100, LOOK)),
                     "-" if steps is None else f"{steps:,}",
                     "-" if predicted is None else f"{predicted:,.0f}"])
    return rows


def show(result):
    """Where we start, where counting is, and the four descents."""
    print(f"{result.pairs:,} pairs of characters of {result.corpus}, V = {result.vocab_size}\n"
          f"uniform {result.uniform:.4f} nats, counted bigram {result.counted:.4f} nats")
    print_table(table(result), f"nats above counting at step …, steps to within {CLOSE:g}")
    print(f"counting takes one pass; the slowest descent that arrived took "
          f"{result.descent_over_count:.0f} times as long")


def draw(result, path):
    """Left: the gap against the step. Right: single contexts at one step, by their frequency."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.2))
    colours = ["#b3442e", "#d99a2b", "#9a9a9a", "#1f5f8b"]
    places = [(400, .25), (1.3, .16), (150, 3.3), (1.3, .012)]
    for colour, trace, predicted, (x, y), name in zip(
            colours, result.gaps, result.predicted, places, result.names):
        left.plot(*zip(*trace[1:]), color=colour, lw=1.8)
        left.text(x, y, name, color=colour, fontsize=9)
        if predicted:
            t = np.array([100, 2e5])
            left.plot(t, CLOSE * predicted / t, ":", color=colour, lw=1)
    left.axhline(CLOSE, color="#cccccc", lw=.8, zorder=0)
    left.text(1.3, 1.1e-3, f"the goal: {CLOSE:g} nats", color="#666666", fontsize=9)
    left.text(1.3, 3e-3, "dotted: the 1/t law", color="#666666", fontsize=9)
    left.set(xscale="log", yscale="log", ylim=(6e-4, 5), xlim=(1, 2e5), xlabel="step",
             ylabel="nats above the counted bigram")
    for gaps, i, x, y in zip(result.context_gaps, (0, 3), (.62, .55), (.93, .03)):
        right.plot(result.shares, gaps, "o", ms=4, color=colours[i])
        right.text(x, y, result.names[i], color=colours[i], transform=right.transAxes)
    right.set(xscale="log", yscale="log", xlabel="how often the context occurs",
              ylabel=f"KL(counted ‖ learned) at step {LOOK:,}, nats")
    slow, quick = result.steps[0], result.steps[3]
    found = "Rare contexts learn last where all share one rate" if slow is None else (
        f"One safe rate comes within {CLOSE:g} nats of counting after {slow:,} steps, "
        f"one for each row after {quick:,}")
    fig.suptitle(found, x=.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
