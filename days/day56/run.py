"""Day 56 · Can a model learn a taste from noisy comparisons, and what if one trusts it too far?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day56 import own, study
from days.day56.start import taught
from days.harness import main, print_table, progress, save
from llm.align.best_of import kl_without_ties
from llm.data.preferences import FAMILIES

NS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
GAPS = [0, 0.6, 1.5, 2.5, 4, 6, 20]
SAID = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01]


@dataclass(frozen=True)
class Result:
    pairs: int            # that each reward model learned from
    noise: float          # of the labels
    prompts: int          # held out, each with `answers` answers
    answers: int
    steps: int
    seeds: int
    families: list        # rows: family, best agreement, [of seeds], lowest nats, [of seeds]
    gaps: list            # rows: from, to, share of pairs, σ(gap), [agreement of seeds]
    calibration: list     # rows: [said, true, share of pairs] over all seeds
    correlation: list     # by seed: of reward and utility of the answers to a prompt
    slopes: list          # by seed: reward of one more filler, times the noise
    true_slope: float
    apart: list           # what seeds disagree about: within a prompt, between prompts
    curve: list           # rows: n, ln n − (n−1)/n, then of seeds KL, r · noise, utility, fillers
    oracle: list          # utility of the best of n chosen by the utility itself
    own: dict             # of the reader's file, if there is one


def measure(fast, seed, data=None):
    settings = study.Settings.small() if fast else study.Settings()
    seeds, start = (2 if fast else 3), lambda: taught(fast)
    if data is not None:
        return own.measure(data, start, settings, seed, Result)
    first = start()
    grid = study.make_grid(first.tokenizer, first.config.T, settings.prompts,
                           np.random.default_rng([seed, 561]))
    found = []
    with progress(seeds * (settings.steps + 20), "training reward models") as tick:
        for s in range(seed, seed + seeds):
            model, _ = study.train(start, study.labelled(first, settings, s), settings, s, tick)
            found.append(study.rewards(model, grid))
            tick(20)
    noise = settings.noise
    every = [study.all_pairs(grid, r, noise) for r in found]
    return Result(
        settings.pairs, noise, settings.prompts, len(grid.p), settings.steps, seeds,
        [family_row(grid, found, noise, name) for name in ("all", *FAMILIES)],
        [[*rows[0][:4], [row[4] for row in rows]]
         for rows in zip(*(study.by_gap(*one, GAPS) for one in every), strict=True)],
        study.calibration(*(np.concatenate(x) for x in zip(*every, strict=True)), SAID, seeds),
        [study.correlation(grid, r) for r in found],
        [study.slope(grid, r) * noise for r in found], study.slope(grid, grid.u),
        study.disagreement(grid, found), curves(grid, found, noise),
        [row[2] for row in study.curve(grid, grid.u, NS)], {})


def family_row(grid, found, noise, name):
    which = slice(None) if name == "all" else grid.family(name)
    every = [study.all_pairs(grid, r, noise, which) for r in found]
    gap, _, w = every[0]
    return [name, study.agreement(gap, gap, w), [study.agreement(*one) for one in every],
            study.nats(gap, gap, w), [study.nats(*one) for one in every]]


def curves(grid, found, noise):
    rows = []
    for steps in zip(*(study.curve(grid, r, NS) for r in found), strict=True):
        n, r, u, m, apart = (list(column) for column in zip(*steps, strict=True))
        rows.append([n[0], kl_without_ties(n[0]), apart, [noise * x for x in r], u, m])
    return rows


def middle(values, digits=3):
    """Mean and range of the seeds: "0.712 (0.704–0.719)"."""
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def table(result):
    if result.own:
        return [["pairs learned", "held out", "agreement", "nats"],
                [result.own["train"], result.own["test"], f"{result.own['agreement']:.3f}",
                 f"{result.own['nats']:.3f}"]]
    rows = [["prompts", "agreement, best", "reward model", "nats, lowest", "reward model "]]
    for name, best, got, lowest, nats in result.families:
        rows.append([name, f"{best:.3f}", middle(got), f"{lowest:.3f}", middle(nats)])
    return rows


def show(result):
    print_table(table(result), "how often a fresh label agrees with the model; mean (range) of "
                               f"{result.seeds} seeds")
    if result.own:
        return
    print_table([["gap of utility / noise", "share", "σ(gap)", "agreement"], *(
        [f"{low:g} … {high:g}", f"{share:.2f}", f"{told:.3f}", middle(got)]
        for low, high, share, told, got in result.gaps)])
    print_table([["model says", "true", "share"], *(
        [f"{said:.3f}", f"{true:.3f}", f"{share:.2f}"]
        for said, true, share in result.calibration)])
    print_table([["n", "ln n − (n−1)/n", "KL", "reward · noise", "utility", "by utility"], *(
        [n, f"{told:.2f}", middle(apart, 2), middle(r, 2), middle(u, 2), f"{best:.2f}"]
        for (n, told, apart, r, u, _), best in zip(result.curve, result.oracle, strict=True))])
    print(f"a filler more: {middle(result.slopes)}, by the rule {result.true_slope:.3f}; seeds "
          f"differ by {result.apart[0]:.2f} within a prompt, {result.apart[1]:.2f} between prompts")


def draw(result, path):
    """Left: agreement by gap and its limit. Middle: calibration. Right: the best of n."""
    import matplotlib.pyplot as plt
    if result.own:
        fig, ax = plt.subplots()
        ax.plot(result.own["losses"], color="#1f5a99")
        ax.set(xlabel="step", ylabel="loss, nats", title=f"{result.own['train']} pairs of your own:"
               f" {100 * result.own['agreement']:.0f} % of the held-out ones in order")
        return save(fig, path)
    fig, (left, mid, right) = plt.subplots(1, 3, figsize=(10.4, 3.9))
    told, got = [row[3] for row in result.gaps], [row[4] for row in result.gaps]
    left.plot([.5, 1], [.5, 1], color="#8a8a8a", ls="--", lw=1, label="the best there is")
    left.errorbar(told, np.mean(got, 1), spread(got), fmt="o-", color="#1f5a99", capsize=3,
                  label="reward model")
    left.set(xlabel="σ(gap): how sure a labeller is", ylabel="agreement with fresh labels")
    left.legend(loc="upper left", fontsize=8)
    said, true, _ = zip(*result.calibration, strict=True)
    mid.plot([.5, 1], [.5, 1], color="#8a8a8a", ls="--", lw=1, label="calibrated")
    mid.plot(said, true, "o-", color="#1f5a99", label="reward model")
    mid.set(xlabel="σ(margin): how sure the model is", ylabel="σ(gap): how sure it should be")
    mid.legend(loc="upper left", fontsize=8)
    ns = [row[0] for row in result.curve]
    for column, color, name in ((3, "#c2571a", "reward · noise"), (4, "#1f5a99", "true utility")):
        y = [row[column] for row in result.curve]
        y = np.array(y) - np.array(y[0])
        right.errorbar(ns, y.mean(1), spread(y), fmt="o-", ms=4, color=color, capsize=2, label=name)
    right.plot(ns, np.array(result.oracle) - result.oracle[0], color="#8a8a8a", ls="--", lw=1,
               label="chosen by utility")
    right.set(xlabel="n", xscale="log", ylabel="best of n: gain over one answer")
    right.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    right.legend(fontsize=8)
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def spread(rows):
    """Distances of the lowest and highest seed from the mean, as errorbar wants them."""
    rows = np.array(rows)
    return np.array([rows.mean(1) - rows.min(1), rows.max(1) - rows.mean(1)])


def title(result):
    """The finding, from the numbers."""
    best, got = result.families[0][1], np.mean(result.families[0][2])
    gain = np.mean(result.curve[-1][4]) - np.mean(result.curve[0][4])
    most = result.oracle[-1] - result.oracle[0]
    return (f"A fresh label agrees with the reward model {100 * got:.0f} % of the time, and "
            f"{100 * best:.0f} % at best;\nthe best of {NS[-1]:,} by its reward gains {gain:.1f} "
            f"of utility, and {most:.1f} could be had")


def arguments(parser):
    parser.add_argument("--data", type=Path, metavar="FILE",
                        help="your own pairs, one JSON object with prompt, chosen and rejected "
                             "a line")


if __name__ == "__main__":
    main(__file__, measure, show, draw, arguments)
