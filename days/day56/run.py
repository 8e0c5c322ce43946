"""Day 56 · Can a model learn a taste from noisy comparisons, and what if one trusts it too far?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from days.day56 import own, study
from days.day56.figure import draw
from days.day56.start import taught
from days.harness import main, print_table, print_text, progress
from llm.align.best_of import kl_without_ties
from llm.data.taste import FAMILIES

NS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
GAPS = [0, 0.6, 1.5, 2.5, 4, 6, 20]
LIKES = 1.0            # utility that a filler adds in the eyes of one labeller
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
    blind: list           # the best slope for who sees only fillers: honest labels, and those of
    likes: float          # … a labeller in whose eyes a filler adds so much
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
        [study.blind_slope(grid, noise, likes) for likes in (0.0, LIKES)], LIKES,
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
    print_text(
        f"a filler more: {middle(result.slopes)}, by the rule {result.true_slope:.3f}; seeds "
        f"differ by {result.apart[0]:.2f} within a prompt, {result.apart[1]:.2f} between prompts")


def arguments(parser):
    parser.add_argument("--data", type=Path, metavar="FILE",
                        help="your own pairs, one JSON object with prompt, chosen and rejected "
                             "a line")


if __name__ == "__main__":
    main(__file__, measure, show, draw, arguments)
