"""Day 63 · A sweep: one setting of a small GPT in several values, each at its own best rate.

A Sweep says which settings, as data; batch_size.py, dropout.py and the others are one Sweep each.
For every value the rate is chosen with one seed on the first half of the held-out text, on a grid
of steps of 1.5 that grows until the best rate stands between two others. Four fresh seeds at that
rate are scored on the second half. Each value is compared with the curve's reference, seed by seed,
and the p-values of all comparisons of the sweep are corrected together (Holm, day 63).

Finished runs are kept, a line each, in DIR/NAME.jsonl: stop with Ctrl-C and call again to go on.
Left out: how a run is made (sweep_run.py), and more than one setting at a time.
"""

import json
import math
import statistics
from dataclasses import dataclass, field, replace

from days.day63.few_seeds import holm, paired
from days.day63.ledger import Ledger
from days.harness import ROOT, machine, plain, print_table, progress, save, write_atomically
from experiments import sweep_run
from experiments.study import command_line

FACTOR, MOST, FIRST = 1.5, 14, 0.01
HIGHEST = 1.0                    # nats above its best at which a curve leaves the figure
COLORS = "#1f5fa8", "#c2571a", "#2e7d4f", "#7b5ea7"
NOTE = ROOT / "notes" / "questions.md"


@dataclass(frozen=True)
class Sweep:
    """What is asked. A point is a value of the setting and the changes of the recipe it means."""

    name: str                                # of the files
    axis: str                                # what the setting is called
    curves: dict                             # {curve: {value: change}}
    reference: dict                          # {curve: the value that others are compared with}
    base: dict = field(default_factory=dict)
    first: dict = field(default_factory=dict)      # {curve: first rate}, FIRST where none is given
    choose: tuple = (0,)
    report: tuple = (10, 11, 12, 13)
    level: float = 0.05
    log: bool = True                         # the axis, base 2
    rates: bool = False                      # the setting is the rate itself, over the first one

    def small(self):
        """For --fast: the first two points of each curve, on little."""
        tiny = {"steps": 4, "warmup": 1, "characters": 20_000, "held_out": 300, "B": 2}
        curves = {curve: {x: {**change, **tiny} for x, change in list(points.items())[:2]}
                  for curve, points in self.curves.items()}
        return replace(self, curves=curves, choose=(0,), report=(10, 11),
                       reference={curve: next(iter(points)) for curve, points in curves.items()})


def measure(sweep, path):
    """Make the runs that are not kept yet; returns the record, and writes it after each point."""
    ledger = Ledger(path.with_suffix(".jsonl"))
    settings = f"{sweep_run.Wider(**sweep.base)}"
    points = sum(map(len, sweep.curves.values()))
    expected = points * len(sweep.report) + (0 if sweep.rates else points * 4 * len(sweep.choose))
    record = {"name": sweep.name, "axis": sweep.axis, "settings": settings, "machine": machine(),
              "seeds": len(sweep.report), "level": sweep.level, "curves": {}}
    with progress(expected, "about so many runs") as tick:
        def run_of(curve, x, rate, seed):
            task = {"variant": f"{curve}, {x}", "change": {**sweep.base, **sweep.curves[curve][x]},
                    "rate": float(f"{rate:.4g}"), "start": seed, "order": seed}
            if (found := ledger.runs.get(key(task))) is None:
                recipe = sweep_run.Wider(**task["change"])
                found = {**task, **sweep_run.run(recipe, task["rate"], seed, seed)}
                ledger.append(found)
            tick(1, f"{task['variant']}, rate {task['rate']:.2g}: {found['report']:.3f}")
            return found

        for curve, points in sweep.curves.items():
            rows = record["curves"][curve] = []
            first = sweep.first.get(curve, FIRST)
            for x in points:
                if sweep.rates:
                    best, grid = float(f"{first * x:.4g}"), []
                else:
                    best, grid = best_rate(first, lambda rate, c=curve, x=x: statistics.mean(
                        run_of(c, x, rate, seed)["choose"] for seed in sweep.choose))
                    first = best                       # where the next value's grid begins
                runs = [run_of(curve, x, best, seed) for seed in sweep.report]
                rows.append(row(x, best, grid, runs))
            compare(sweep, record)
            write(record, path)
    record["runs"] = len(ledger.runs)
    record["cpu_minutes"] = sum(run["seconds"] for run in ledger.runs.values()) / 60
    write(record, path)
    return record


def key(task):
    """What tells two runs apart, as day 63's ledger has it."""
    return (task["variant"], frozenset(task["change"].items()), task["rate"], task["start"],
            task["order"])


def best_rate(first, score):
    """(best rate, [[rate, score]]): a grid around `first` that grows until the best is inside."""
    found = {}

    def ask(step):
        if step not in found:
            found[step] = score(first * FACTOR ** step)

    for step in (-1, 0, 1):
        ask(step)
    while True:
        best = min(found, key=found.get)
        if abs(best) >= MOST or (best - 1 in found and best + 1 in found):
            return (float(f"{first * FACTOR ** best:.4g}"),
                    [[float(f"{first * FACTOR ** s:.4g}"), found[s]] for s in sorted(found)])
        ask(best - 1)
        ask(best + 1)


def row(x, rate, grid, runs):
    losses = [run["report"] for run in runs]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return {"x": x, "rate": rate, "grid": grid, "losses": losses,
            "mean": statistics.mean(finite) if finite else None,
            "sd": statistics.stdev(finite) if len(finite) > 1 else 0.0,
            "diverged": len(losses) - len(finite),
            "train": statistics.mean(run["train"] for run in runs),
            "parameters": runs[0]["parameters"]}


def compare(sweep, record):
    """Each point less its curve's reference, seed by seed; Holm over all points of the record."""
    tested = []
    for curve, rows in record["curves"].items():
        by = {r["x"]: r for r in rows}
        base = by[sweep.reference[curve]]
        for r in rows:
            if r is base:
                r["verdict"] = "reference"
            elif r["diverged"] or base["diverged"]:
                r["verdict"] = f"{r['diverged']} of {len(r['losses'])} diverged"
            else:
                r["difference"] = paired(r["losses"], base["losses"], sweep.level)
                tested.append(r)
    for r, p in zip(tested, holm([r["difference"]["p"] for r in tested]), strict=True):
        better = "better" if r["difference"]["mean"] < 0 else "worse"
        r["holm"], r["verdict"] = p, better if p <= sweep.level else "cannot be told apart"


def write(record, path):
    text = json.dumps(plain(record), indent=1, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def table(record):
    """Rows of text: a point each."""
    rows = [["", record["axis"], "best rate", "nats", "± sd", "less the reference",
             "verdict"]]
    for curve, points in record["curves"].items():
        for r in points:
            d = r.get("difference")
            rows.append([curve, f"{r['x']:g}", f"{r['rate']:.2g}",
                         "–" if r["mean"] is None else f"{r['mean']:.3f}", f"{r['sd']:.3f}",
                         f"{d['mean']:+.3f} ({d['low']:+.2f} … {d['high']:+.2f})" if d else "",
                         r["verdict"]])
    return rows


def show(record):
    head, *rows = table(record)
    for curve in record["curves"]:
        print_table([head[1:], *(r[1:] for r in rows if r[0] == curve)],
                    f"{curve}; {record['seeds']} fresh seeds a row")


def draw(record, path, log=True):
    """Left: loss at the best rate, a point a seed. Right: loss against the rate, a line a point."""
    import matplotlib.pyplot as plt
    grids = any(r["grid"] for rows in record["curves"].values() for r in rows)
    fig, axes = plt.subplots(1, 2 if grids else 1, figsize=(9.4 if grids else 6.4, 3.9),
                             squeeze=False)
    left = axes[0][0]
    for color, (curve, rows) in zip(COLORS, record["curves"].items()):
        drawn = [r for r in rows if r["mean"] is not None]
        left.errorbar([r["x"] for r in drawn], [r["mean"] for r in drawn],
                      [r["sd"] for r in drawn], color=color, marker="o", ms=4, capsize=3,
                      label=curve)
        for i, r in enumerate(r for r in rows if r["grid"]):
            near = [g for g in r["grid"] if g[1] < min(x[1] for x in r["grid"]) + HIGHEST]
            axes[0][1].plot([g[0] for g in near], [g[1] for g in near], "o-", ms=3,
                            color=color, alpha=1 - .75 * i / max(len(rows) - 1, 1))
    values = sorted({r["x"] for rows in record["curves"].values() for r in rows})
    if log:
        left.set_xscale("log", base=2)
    left.set_xticks(values, [f"{x:g}" for x in values])
    left.minorticks_off()
    left.set(xlabel=record["axis"], ylabel="nats a character, second half")
    left.legend(frameon=False, fontsize=8.5)
    if grids:
        axes[0][1].set_xscale("log")
        low, high = axes[0][1].get_xlim()
        ticks = [t for t in (.002, .005, .01, .02, .05, .1, .2, .5) if low <= t <= high]
        axes[0][1].set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes[0][1].minorticks_off()
        axes[0][1].set(xlabel="rate (a line a value; the paler, the further right on the left)",
                       ylabel="nats a character, first half")
    lowest = "; ".join(f"{curve}: {min(drawn, key=lambda r: r['mean'])['x']:g}"
                       for curve, rows in record["curves"].items()
                       if (drawn := [r for r in rows if r["mean"] is not None]))
    fig.suptitle(f"The lowest mean is at — {lowest}", x=.01, ha="left", fontsize=10)
    save(fig, path)


def write_note(record):
    """Put the record's table into notes/questions.md."""
    put(record["name"], table(record), f"{record['runs']} runs, {record['cpu_minutes']:.0f} minutes"
        f" of one thread, {record['seeds']} fresh seeds a row.")


def put(name, rows, said, note=NOTE):
    """Write these rows and a sentence between the marks of `name` in the note, if it has them."""
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = note.read_text(encoding="utf-8") if note.exists() else ""
    if marks[0] not in text:
        return
    head, *body = rows
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    write_atomically(note, "\n".join([before + marks[0], "", *lines, "", said, "",
                                      marks[1] + after]).encode())


def committed(path, name):
    """Whether this record is the one that the note shows."""
    return path.parent == ROOT / "experiments" and path.stem == name


def main(sweep, about):
    """The command line of a sweep."""
    def measured(plan, path):
        record = measure(plan, path)
        if committed(path, sweep.name):
            write_note(record)
        return record

    command_line(sweep.name, about, sweep, sweep.small(), measured, show,
                 lambda record, path: draw(record, path, log=sweep.log))
