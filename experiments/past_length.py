"""Day 63 · Trained on windows of 32, read with longer ones: which positions still work?

    python experiments/past_length.py [--fast] [--json] [--out DIR]

Five ways to tell positions are trained on windows of 32 characters, each at its own best rate (two
seeds, the first half of the held-out text). Four fresh seeds then read the second half in windows
of 32 to 256, every character after at least half a window. The control was trained on windows of
128 with the same number of characters. Runs are kept in DIR/past_length.jsonl.
"""

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np

from days.day63.few_seeds import paired
from days.day63.ledger import Ledger
from days.day63.trial import nats_per_character, one_thread
from days.harness import machine, print_table, progress, save
from experiments import sweep, sweep_run
from experiments.study import command_line

COLORS = "#1f5fa8", "#2e7d4f", "#7b5ea7", "#8a8a8a", "#c2571a", "#222222"


@dataclass(frozen=True)
class Plan:
    """What is trained and how far it is read."""

    ways: tuple = (("rotary", "rotary", 32, 0.0135), ("ALiBi", "alibi", 32, 0.0135),
                   ("sinusoids", "sinusoidal", 32, 0.0135), ("no positions", "none", 32, 0.0135),
                   ("learned", "learned", 32, 0.009), ("rotary, from 128", "rotary", 128, 0.0135))
    lengths: tuple = (32, 48, 64, 128, 256)
    tokens: int = 256                    # of a batch
    base: tuple = (("T", 256),)
    choose: tuple = (0, 1)
    report: tuple = (10, 11, 12, 13)

    @classmethod
    def small(cls):
        return cls(ways=cls.ways[:2], choose=(0,), report=(10, 11),
                   base=(("T", 256), ("steps", 3), ("warmup", 1), ("characters", 20_000),
                         ("held_out", 600)))


def one(recipe, rate, seed, lengths):
    """{"choose": nats at the trained length, "report": {length: nats}} of one model."""
    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
        model, texts, _, _ = sweep_run.train(recipe, rate, seed, seed)
        return {"choose": nats_per_character(model, *texts.pieces["choose"], recipe.window),
                "report": {str(n): nats_per_character(model, *texts.pieces["report"], n)
                           for n in lengths}}


def measure(plan, path):
    """Every run that is not kept yet; returns the record."""
    ledger = Ledger(path.with_suffix(".jsonl"))
    expected = len(plan.ways) * (4 * len(plan.choose) + len(plan.report))
    record = {"lengths": plan.lengths, "seeds": len(plan.report), "machine": machine(), "ways": {}}
    with progress(expected, "about so many runs") as tick:
        def run_of(name, position, window, rate, seed):
            change = {**dict(plan.base), "position": position, "window": window,
                      "B": plan.tokens // window}
            task = {"variant": name, "change": change, "rate": float(f"{rate:.4g}"),
                    "start": seed, "order": seed}
            found = ledger.runs.get(sweep.key(task))
            if found is None:
                recipe = replace(sweep_run.Wider(), **change)
                found = {**task, **one(recipe, task["rate"], seed, plan.lengths)}
                ledger.append(found)
            tick(1, f"{name}, rate {rate:.2g}: {found['choose']:.3f}")
            return found

        for name, position, window, first in plan.ways:
            best, grid = sweep.best_rate(first, lambda rate, way=(name, position, window):
                                         statistics.mean(run_of(*way, rate, seed)["choose"]
                                                         for seed in plan.choose))
            runs = [run_of(name, position, window, best, seed) for seed in plan.report]
            losses = [[run["report"][str(n)] for run in runs] for n in plan.lengths]
            record["ways"][name] = {
                "rate": best, "grid": grid, "window": window, "losses": losses,
                "mean": [statistics.mean(x) for x in losses],
                "sd": [statistics.stdev(x) for x in losses],
                "gain": [paired(x, losses[0]) for x in losses[1:] if all(map(math.isfinite, x))]}
    record["runs"] = len(ledger.runs)
    sweep.write(record, path)
    if sweep.committed(path, "past_length"):
        write_note(record)
    return record


def write_note(record):
    sweep.put("past_length", table(record), f"{record['runs']} runs, {record['seeds']} fresh seeds "
              "a row; mean ± standard deviation, nats a character.")


def table(record):
    """Rows of text: nats a character for each way and length."""
    rows = [["positions", *(f"windows of {n}" for n in record["lengths"])]]
    for name, way in record["ways"].items():
        rows.append([name, *(f"{m:.3f} ± {s:.3f}" for m, s in zip(way["mean"], way["sd"]))])
    return rows


def show(record):
    print_table(table(record), f"nats a character, mean ± sd of {record['seeds']} seeds")


def draw(record, path):
    """Loss against the length that is read, a line a way."""
    import matplotlib.pyplot as plt
    fig, axis = plt.subplots(figsize=(6.8, 4.2))
    for color, (name, way) in zip(COLORS, record["ways"].items()):
        axis.errorbar(record["lengths"], way["mean"], way["sd"], color=color, marker="o", ms=4,
                      capsize=3, label=name, ls="--" if way["window"] > 32 else "-")
    axis.set_xscale("log", base=2)
    axis.set_xticks(record["lengths"], [str(n) for n in record["lengths"]])
    axis.minorticks_off()
    axis.set(xlabel="characters a window when reading (32 in training, the dashed line 128)",
             ylabel="nats a character, second half")
    axis.legend(frameon=False, fontsize=8.5)
    best = min(record["ways"], key=lambda n: record["ways"][n]["mean"][-1]
               if record["ways"][n]["window"] == 32 else math.inf)
    fig.suptitle(f"Trained on 32 and read with {record['lengths'][-1]}, "
                 f"{best} has the lowest mean of the ways", x=.01, ha="left", fontsize=10)
    save(fig, path)


if __name__ == "__main__":
    command_line("past_length", __doc__, Plan(), Plan.small(), measure, show, draw)
