"""Day 06 · The baseline: nats per character of Shakespeare, by order and by smoothing."""

import time
import tracemalloc
from dataclasses import dataclass
from statistics import median

import numpy as np

from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.models.counts import find, level, longest, pack
from llm.models.ngram import NGram
from llm.models.smoothing import discounts
from llm.tokens.chars import CharTokenizer

KINDS = {"add-k": {"smoothing": "add-k"}, "interpolated": {"smoothing": "interpolated"},
         "back-off": {"smoothing": "backoff", "discount": 0.75},
         "absolute": {"smoothing": "absolute", "discount": 0.75},
         "KN .75": {"smoothing": "kneser-ney", "discount": 0.75},
         "modified KN": {"smoothing": "kneser-ney"}}


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say; nats are −ln P of a character, mean."""

    source: str               # which text
    vocabulary: int           # V, its distinct characters
    train: int                # characters counted, the first 90 %
    held_out: int             # characters of the last 10 %
    near: int                 # the first characters of these, scored apart in `validation_near`
    names: list               # the smoothings
    orders: list              # n, characters in a run: n − 1 of context and the one predicted
    validation: list          # [smoothing][order] nats, the whole last 10 %
    validation_near: list     # the same over its first `near` characters
    training: list            # the same over as many characters, the last of the training text
    best: list                # [smoothing] order with the lowest `validation`
    chosen: list              # rows: smoothing, D, order (both by the first half of the held-out
                              # text), nats on its second half
    alone: list               # [order 5 …] share of the runs seen once whose context was seen once
    estimate: list            # Y at the best order, and with those runs left out
    perplexity: float         # e^nats of the best smoothing at its best order
    stored: list              # [order] numbers the Kneser–Ney model holds
    discounts: list           # D1, D2, D3+ at the top level of the best order
    lost: list                # [r − 1] what a run seen r times in one half lacks in the other
    fit_seconds: float        # order 6, Kneser–Ney, median of three
    fit_megabytes: float      # the most NumPy held during that fit, ids included
    sample: str               # what the best model says, "⏎" for a new line


def measure(fast, seed):
    """Fit and score every smoothing at every order, then look closer at the best one."""
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    v, size = tokenizer.vocab_size, 500_000 if fast else len(corpus.train)
    train = tokenizer.encode(corpus.train[:size])
    test = tokenizer.encode(corpus.validation[:size // 9])
    near, orders = min(100_000, len(test)), list(range(1, min(6 if fast else 8, longest(v)) + 1))
    nats, stored = np.zeros((3, len(KINDS), len(orders))), []
    with progress(nats[0].size + (12 if fast else 21), "counting") as step:
        for i, j in np.ndindex(nats[0].shape):
            model = NGram.fit(train, orders[j], v, **list(KINDS.values())[i])
            loss, own = (-model.log_probabilities(ids) for ids in (test, train[-near:]))
            nats[:, i, j] = loss.mean(), loss[:near].mean(), own.mean()
            stored.append(model.size)
            step(1)
        cuts = (0.75, 0.9) if fast else (0.75, 0.8, 0.85, 0.9, 0.95)
        chosen = choose(train, test, v, [*orders[-2:], orders[-1] + 1], cuts, step)
    best = [orders[j] for j in nats[0].argmin(axis=1)]
    model = NGram.fit(train, best[-1], v)
    said = tokenizer.decode(model.generate(300, np.random.default_rng(seed))).replace("\n", "⏎")
    return Result(
        corpus.name, v, len(train), len(test), near, list(KINDS), orders, *nats.tolist(), best,
        chosen, [alone(NGram.fit(train, n, v).levels[-1])[0] for n in orders[4:]],
        list(alone(model.levels[-1])[1:]),
        float(np.exp(nats[0, -1].min())), stored[-len(orders):],
        discounts(model.levels[-1].counts).tolist(), lost(pack(train, 6, v), v), *cost(train, v),
        said)


def choose(train, test, v, orders, cuts, step):
    """Kneser–Ney with one discount and with three, their settings chosen on half of the text."""
    halves, rows = (test[:len(test) // 2], test[len(test) // 2:]), []
    for name, discounts_ in (("one, 0.75", cuts[:1]), ("one, the best", cuts), ("three", [None])):
        tried = []
        for order in orders:
            for cut in discounts_:
                model = NGram.fit(train, order, v, discount=cut)
                tried.append([*(-float(model.log_probabilities(half).mean()) for half in halves),
                              cut, order])
                step(1)
        first, second, cut, order = min(tried, key=lambda row: row[0])
        rows.append([name, cut, order, second])
    return rows


def alone(level):
    """(share of the runs seen once whose context was seen once, Y, Y without them)."""
    once = level.counts == 1
    first = once & (level.per_context(level.counts)[level.owner] == 1)
    n1, n2, left = once.sum(), (level.counts == 2).sum(), (once & ~first).sum()
    return float(first.sum() / n1), float(n1 / (n1 + 2 * n2)), float(left / (left + 2 * n2))


def lost(codes, v):
    """What a count r lacks in another text of the same length: halves in turns of 2,000 runs."""
    half = np.arange(len(codes)) // 2000 % 2
    one, two = (level(codes[half == side], v) for side in (0, 1))
    at, seen = find(two.grams, one.grams)
    again = np.where(seen, two.counts[at], 0)
    return [float(r - again[one.counts == r].mean()) for r in range(1, 10)]


def cost(train, v):
    """Fitting order 6: seconds, and megabytes."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        NGram.fit(train, 6, v)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    NGram.fit(train, 6, v)
    peak = (tracemalloc.get_traced_memory()[1] + train.nbytes) / 1e6
    tracemalloc.stop()
    return median(seconds), peak


def table(result):
    """Nats per held-out character: one row an order, one column a smoothing."""
    return [["order n", *result.names]] + [
        [n, *(f"{x:.3f}" for x in nats)] for n, nats in zip(result.orders, zip(*result.validation))]


def show(result):
    """Print the table, the cost and a sample."""
    print(f"{result.source}: {result.train:,} characters counted, {result.held_out:,} held out, "
          f"V = {result.vocabulary}\nnats per held-out character:")
    print_table(table(result))
    print_table([["Kneser–Ney with discounts", "D", "order", "nats"], *(
        [name, "–" if cut is None else f"{cut:.2f}", order, f"{x:.3f}"]
        for name, cut, order, x in result.chosen)],
        "chosen on the first half of the held-out text, scored on the second")
    print_text(
        f"best: {result.names[-1]}, order {result.best[-1]}, {min(result.validation[-1]):.3f} "
        f"nats, perplexity {result.perplexity:.2f}\nfit of order 6: {result.fit_seconds:.2f} s, "
        f"{result.fit_megabytes:.0f} MB\nit says: {result.sample[:220]}")


def draw(result, path):
    """Left: nats against order. Right: what a count is worth in an equal text."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), width_ratios=(1.5, 1))
    best, worst = min(result.validation[-1]), min(result.validation[0])
    top, height, ends = worst + 0.3, 0, []
    for name, nats in zip(result.names, result.validation):
        line = left.plot(result.orders[2:], nats[2:], "o-", markersize=3.5)[0]
        i = max(i for i, x in enumerate(nats) if x <= top)  # the last point in the picture
        ends.append((nats[i], result.orders[i], name, line.get_color()))
    for y, x, name, colour in sorted(ends):  # labels at the ends, pushed apart
        height = max(y, height + (top - best) / 18)
        left.text(x + 0.15, height, name, color=colour, va="center")
    left.set(ylim=(best - 0.05, top), xlim=(2.8, result.orders[-1] + 1.5), xlabel="order n",
             xticks=result.orders[2:], ylabel="nats per held-out character", title=(
                 f"Modified Kneser–Ney reaches {best:.3f} nats at order {result.best[-1]};\n"
                 f"add-k, at its best, {worst:.3f} at order {result.best[0]}"))
    kept = [r - lost for r, lost in enumerate(result.lost, 1)]
    right.plot(range(1, 10), kept, "o-", color="#1f5fa8")
    for slope, colour, said, x, y in [(1, "#8a8a8a", "no loss", 6.4, 7.3),
                                      (kept[0], "#b03a2e", "the same\nshare lost", 9, 2.9)]:
        right.plot([0, 9], [0, 9 * slope], color=colour, lw=0.9)
        right.text(x, y, said, color=colour, ha="right")
    right.set(xlim=(0, 9.4), ylim=(0, 9.4), xlabel="times seen in one half of the text",
              ylabel="mean times in the other half", title=(
                  "A 6-character run seen r times returns\n"
                  f"r − {min(result.lost):.1f} to r − {max(result.lost):.1f} times: a discount"))
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
