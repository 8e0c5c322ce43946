"""Day 26 · Sums of two 3-digit numbers, cut in seven ways: do their columns have to line up?

    python experiments/alignment.py [--fast] [--json] [--out DIR]

Day 16's window model learns the same sums under each way to cut a number. Three ways have the same
110 pieces and differ only in where they cut; three have lined-up columns and differ in how many
pieces there are. The rate of each way is chosen on other sums, with another seed, than those
reported. Four CPU minutes; without GPT-2's vocabulary its row is left out.
Left out: large models and far more sums, for which alignment is known to matter.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from days.harness import (
    ROOT,
    UsageError,
    figure,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    save,
    say,
    write_atomically,
)
from experiments.pathologies_numbers import (
    Sums,
    alignment_of,
    digits,
    digits_reversed,
    drawn,
    threes_right,
)
from llm.data.download import TextError
from llm.models.neural_ngram import NeuralNGram, train
from llm.tokens.files.gpt2 import load_gpt2
from llm.train.adam import AdamW
from llm.train.schedule import WarmupCosine

RATES = (5e-3, 7.5e-3, 1.12e-2, 1.68e-2, 2.5e-2, 3.8e-2)
CHOOSING, SEEDS = 3, (0, 1, 2)          # the seed that chooses a rate, and those that are reported
STEPS, LONGER = 2500, 4                 # the second: times the steps, for two of the ways


def twos_right(n):
    """123 -> 1 23, 1234 -> 12 34: every column lines up."""
    text = str(n)
    first = len(text) % 2
    return [text[:first]] * first + [text[i:i + 2] for i in range(first, len(text), 2)]


def twos_left(n):
    """123 -> 12 3, 1234 -> 12 34: operands line up with each other, a longer sum does not."""
    text = str(n)
    return [text[i:i + 2] for i in range(0, len(text), 2)]


def twos_scattered(n):
    """One of two cuts, fixed for each number by a hash: 123 -> 1 23 or 12 3, 1234 -> 12 34 or
    1 23 4. As a learned vocabulary cuts: always in the same way, and without a rule."""
    text = str(n)
    if n * 2654435761 >> 7 & 1:
        return twos_right(n)
    if len(text) % 2:
        return twos_left(n)
    return [text[0], *(text[i:i + 2] for i in range(1, len(text) - 1, 2)), text[-1]]


def gpt2_pieces(n, known={}):  # noqa: B006 — a cache, so that a process loads the file once
    """As GPT-2's vocabulary cuts a number behind no space."""
    if not known:
        gpt2 = load_gpt2()
        known.update({k: [gpt2.decode([i]) for i in gpt2.encode(str(k)).tolist()]
                      for k in range(2000)})
    return known[n]


WAYS = {"digits, ones first": digits_reversed, "digits": digits,
        "twos, from the right": twos_right, "twos, from the left": twos_left,
        "twos, scattered": twos_scattered, "threes": threes_right, "GPT-2's pieces": gpt2_pieces}


def learn(job):
    """(way, rate, seed, steps, sums) -> the shares of sums right: trained on, choosing, reported.

    `sums` are learned from; as many as a tenth of them, twice, are held out.
    """
    way, rate, seed, steps, sums = job
    rng, held = np.random.default_rng(seed), sums // 10
    pairs = np.unique(rng.integers(100, 1000, (sums + 2 * held, 2)), axis=0)
    rng.shuffle(pairs)
    choosing, reported, seen = np.split(pairs, [held, 2 * held])
    task = Sums(WAYS[way])
    windows, targets = task.examples(seen)
    model = NeuralNGram(len(task.names), task.T, 16, 128, np.random.default_rng(seed))
    optimizer = AdamW(model.named_parameters(), betas=(0.9, 0.99))
    train(model, drawn(windows, targets, 128, np.random.default_rng(seed)), WarmupCosine(rate),
          steps=steps, update=lambda _, rate: optimizer.step(rate))
    return [task.solved(model, pairs) for pairs in (seen[:held], choosing, reported)]


def lined_up(way):
    """The share of all sums of two 3-digit numbers in which both operands and sum are cut alike."""
    return alignment_of(WAYS[way], range(100, 1000))


def measure(fast):
    """Choose a rate for each way, then train it with three other seeds."""
    ways = list(WAYS)
    try:
        load_gpt2()
    except TextError as error:
        say(f"{error} Going on without GPT-2's vocabulary.")
        ways.remove("GPT-2's pieces")
    steps, sums, rates, seeds, longer = STEPS, 20_000, RATES, SEEDS, LONGER
    if fast:
        steps, sums, rates, seeds, longer, ways = 40, 500, RATES[:2], SEEDS[:1], 2, ways[1:5]
    with (ProcessPoolExecutor(2, get_context("spawn")) as pool,
          progress(len(ways) * (len(rates) + len(seeds)) + 2 * len(seeds), "learning") as tick):
        def run(jobs):
            for result in pool.map(learn, jobs):
                tick(1)
                yield result
        tried = iter(run([(way, rate, CHOOSING, steps, sums) for way in ways for rate in rates]))
        rows = []
        for way in ways:
            grid = [[rate, next(tried)[1]] for rate in rates]
            task = Sums(WAYS[way])
            rows.append({"way": way, "pieces": len(task.names) - 4, "grid": grid,
                         "lined_up": lined_up(way), "rate": max(grid, key=lambda row: row[1])[0]})
        jobs = [(row["way"], row["rate"], seed, steps, sums) for row in rows for seed in seeds]
        done = iter(run(jobs))
        for row in rows:
            row["seen"], _, row["unseen"] = zip(*(next(done) for _ in seeds))
        long = [row for row in rows if row["way"] in ("twos, from the right", "twos, scattered")]
        done = iter(run([(row["way"], row["rate"], seed, steps * longer, sums)
                         for row in long for seed in seeds]))
        more = []
        for row in long:
            seen, _, unseen = zip(*(next(done) for _ in seeds))
            more.append({"way": row["way"], "seen": seen, "unseen": unseen})
    return {"steps": steps, "sums": sums, "rows": rows, "longer": longer, "more": more,
            "fast": fast, "machine": machine()}


def show(record):
    """Print the table."""
    rows = [["way", "pieces", "lined up", "rate", "right: seen", "unseen", "lowest", "highest"]]
    for x in [*record["rows"], *record["more"]]:
        rate = f"{x['rate']:g}" if "rate" in x else f"steps × {record['longer']}"
        rows.append([x["way"], x.get("pieces", ""), f"{x['lined_up']:.0%}" if "rate" in x else "",
                     rate, *(f"{v:.1%}" for v in (np.mean(x["seen"]), np.mean(x["unseen"]),
                                                  min(x["unseen"]), max(x["unseen"])))])
    print_table(rows, f"{record['sums']:,} sums of two 3-digit numbers, {record['steps']:,} steps")


def draw(record, path):
    """Right sums for each way: three that differ in size, three that differ in alignment."""
    import matplotlib.pyplot as plt
    by = {row["way"]: row for row in record["rows"]}
    panels = [("Columns always line up;\nmore pieces, fewer right",
               ["digits", "twos, from the right", "threes"], "pieces"),
              ("The same 110 pieces;\nwhere they cut changes",
               ["twos, from the right", "twos, from the left", "twos, scattered"], "lined_up")]
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.6))
    for ax, (title, ways, label), color in zip(axes, panels, ("#1b4965", "#c1440e")):
        for k, way in enumerate(way for way in ways if way in by):
            values = [100 * x for x in by[way]["unseen"]]
            ax.bar(k, np.mean(values), color=color, width=0.6, alpha=0.5)
            ax.plot([k] * len(values), values, "o", color=color, ms=4)
            note = f"{by[way]['pieces']:,} pieces" if label == "pieces" else (
                f"{by[way]['lined_up']:.0%} line up")
            ax.text(k, max(values) + ax.get_ylim()[1] * 0.02, note, ha="center", va="bottom")
        ax.set(xticks=range(len(ways)), xticklabels=[w.replace(", ", ",\n") for w in ways],
               ylabel="% of new sums right (dots: seeds)")
        ax.set_title(title, fontsize=10)
        ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    fig.suptitle("How many pieces there are decides more than whether columns line up",
                 x=0.01, ha="left", fontsize=11)
    save(fig, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="less of everything, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "alignment", metavar="DIR",
                        help="where alignment.json and .svg go (runs/alignment)")
    options = parser.parse_args()
    path = options.out / ("alignment-fast.json" if options.fast else "alignment.json")
    try:
        prepare(options.out)
        record = plain(measure(options.fast))
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
        figure(draw, record, path.with_suffix(".svg"))
    except KeyboardInterrupt:
        say("alignment: stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"alignment: {error}")
        sys.exit(2)
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"{path.name} is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
