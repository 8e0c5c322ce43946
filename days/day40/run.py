"""Day 40 · What does a FLOP buy? A dozen small models, a law through them, and a prediction."""

import json
from dataclasses import dataclass

import numpy as np

from days.day40 import laws, models
from days.day40.side import side_by_side
from days.harness import ROOT, main, print_table, progress, save

SWEEP = {2e10: (8, 12, 16), 4e10: (8, 12, 16, 24, 32), 8e10: (12, 16, 24, 32)}  # FLOPs: widths
FAST = {4e8: (8, 12, 16), 8e8: (8, 12, 16)}
NEXT, SEEDS = 2, 2               # the predicted budget over the largest; how often it is trained
LONG = ROOT / "experiments" / "scaling.json"
COLORS = ["#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c"]


@dataclass(frozen=True)
class Result:
    floor: float          # nats per token that no model can beat
    tokens: float         # for each character
    runs: list            # rows: C, N, D, FLOPs, nats per token, the law's
    law: dict             # E, A, B, alpha, beta, spread
    intervals: dict       # 95 % of each coefficient and of share, by bootstrap
    share: float          # the exponent of the best N in the budget
    budget: float         # of the run that is predicted, in FLOPs
    C: int                # its width: the law's best of those that were trained
    predicted: float      # written down before it is trained
    interval: list        # 95 % of the prediction
    reached: list         # what it then has, from two starts


def measure(fast, seed):
    sweep = FAST if fast else SWEEP
    budget = NEXT * max(sweep)
    text = models.data("stories", 400, 20) if fast else models.data("stories", 12_000, 150)
    jobs = [(C, flops, seed) for flops, widths in sweep.items() for C in widths]
    with progress(len(jobs) + SEEDS, "training") as tick, side_by_side(text, fast) as trainings:
        losses = []
        for (C, *_), loss in zip(jobs, trainings(jobs)):
            losses.append(loss)
            tick(1, f"C {C}: {loss:.3f}")
        sizes = [laws.size_on(C, flops) for C, flops, _ in jobs]
        N, D, _ = (np.array(column, np.float64) for column in zip(*sizes))
        found, law, fits = laws.fitted(N, D, np.array(losses), 20 if fast else 200)
        told = {C: law.loss(*laws.size_on(C, budget)[:2]) for C, *_ in jobs}
        C = min(told, key=told.get)
        predicted, interval = laws.foretell(law, fits, (N, D, np.array(losses)), C, budget,
                                            np.random.default_rng([seed, 40]))
        reached = list(trainings([(C, budget, seed + i) for i in range(SEEDS)]))
        tick(SEEDS)
    rows = [[C, *size, loss, float(law.loss(*size[:2]))]
            for (C, *_), size, loss in zip(jobs, sizes, losses)]
    return Result(text.floor, text.tokens, rows, found["law"], found["intervals"], found["share"],
                  budget, C, predicted, interval, reached)


def table(result):
    rows = [["FLOPs", "C", "parameters", "tokens", "nats a token", "the law"]]
    return rows + [[f"{F:.0e}", C, f"{N:,}", f"{D:,}", f"{L:.3f}", f"{told:.3f}"]
                   for C, N, D, F, L, told in result.runs]


def show(result):
    print_table(table(result), "Stories, each model at the rate of its width and length")
    numbers = {**result.law, "share": result.share}
    print_table([["", "value", "95 %"], *(
        [name, f"{numbers[name]:.3f}", "{:.3f} to {:.3f}".format(*result.intervals[name])]
        for name in ("E", "alpha", "beta", "share")),
        ["floor of the grammar", f"{result.floor:.3f}", "exact"],
        [f"{result.budget:.1e} FLOPs, C {result.C}: told", f"{result.predicted:.3f}",
         "{:.3f} to {:.3f}".format(*result.interval)],
        ["… and reached", ", ".join(f"{x:.3f}" for x in result.reached), "two starts"]],
        "L = E + A/N^α + B/D^β")


def draw(result, path):
    """Left: this run. Middle and right: the long sweep, if it is there."""
    import matplotlib.pyplot as plt
    record = json.loads(LONG.read_text()) if LONG.exists() else None
    fig, axes = plt.subplots(1, 3 if record else 1, figsize=(11.6 if record else 5.4, 4.1),
                             squeeze=False)
    ours(axes[0, 0], result)
    if record:
        for ax, text in zip(axes[0, 1:], ("stories", "shakespeare")):
            valley(ax, record, text)
    fig.suptitle(title(result), x=0.01, ha="left", fontsize=11)
    save(fig, path)


def ours(ax, result):
    """The runs over their tokens, the prediction and what came."""
    law = laws.law_of(result.law)
    sizes = sorted({(C, N) for C, N, *_ in result.runs})
    for color, (C, N) in zip(COLORS, sizes):
        rows = [row for row in result.runs if row[0] == C]
        D = np.geomspace(rows[0][2] / 1.1, max(laws.size_on(C, result.budget)[1], rows[-1][2]), 40)
        ax.loglog(D, law.loss(N, D), color=color)
        ax.loglog([row[2] for row in rows], [row[4] for row in rows], "o", color=color,
                  label=f"C {C}")
    D = laws.size_on(result.C, result.budget)[1]
    low, high = result.interval
    ax.errorbar([D], [result.predicted], fmt="_", color="#c2571a", capsize=4, yerr=[
        [max(0, result.predicted - low)], [max(0, high - result.predicted)]], label="told (95 %)")
    ax.plot([D] * len(result.reached), result.reached, "*", ms=9, color="#c2571a", label="reached")
    ax.axhline(result.floor, color="#8a8a8a", ls="--", lw=1, label="entropy")
    ax.set(xlabel="tokens D", ylabel="nats per token, held-out stories",
           title="run.py: stories; lines: the law")
    readable(ax)


def valley(ax, record, text):
    """Losses of equal budgets over the size, and the parabola of each."""
    groups, found = laws.cells([r for r in record["runs"] if r["part"] == "sweep"
                                and r["text"] == text]), record["found"][text]
    for color, (budget, sizes) in zip(COLORS, sorted(groups.items())):
        ax.loglog(sorted(sizes), [np.mean(sizes[N]) for N in sorted(sizes)], "o-", color=color,
                  label=f"{budget:.1e} FLOPs")
    rows = [row for row in found["valleys"]["rows"] if row[3]]
    ax.loglog([row[1] for row in rows], [row[2] for row in rows], "x", color="#c2571a", ms=8,
              label="lowest point")
    ax.set(xlabel="parameters N", title=f"experiments/scaling.py: {text}")
    ax.set_xlim(right=4 * max(N for sizes in groups.values() for N in sizes))
    readable(ax)


def readable(ax):
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.2f}"))
    ax.legend(fontsize=6.5, handlelength=1.2)


def title(result):
    return (f"A dozen small runs told {result.predicted:.3f} nats for {result.budget:.1e} FLOPs "
            f"({result.interval[0]:.3f} to {result.interval[1]:.3f}); two runs reached "
            f"{min(result.reached):.3f} and {max(result.reached):.3f}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
