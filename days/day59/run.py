"""Day 59 · GRPO on worked sums: right results are rewarded, and accuracy climbs; coins do not."""

from dataclasses import dataclass

import numpy as np

from days.day59 import adding, job
from days.day59.judged import KS, evaluate
from days.day59.start import start, tasks_of
from days.harness import kernels, main, print_table, progress, save

NAMES = ("the start", "GRPO", "coins")
COLORS = "#8a8a8a", "#1f5a99", "#c0392b"


@dataclass(frozen=True)
class Result:
    prompts: int          # sums of the test, on which all are judged
    draws: int            # answers sampled to each
    rounds: int           # updates of each run
    P: int                # prompts a round
    G: int                # answers to each
    ks: list              # k of pass@k
    rows: list            # one dict a model, in the order of NAMES: what `evaluate` finds
    curves: list          # share of right answers a round: of GRPO, of the coins
    silent: list          # share of groups with equal rewards, a round of GRPO
    samples: list         # [prompt, the start's greedy answer, GRPO's], the first eight
    carried: list         # the same of the first eight sums with a carry


def measure(fast, seed):
    plan, n, draws = (job.Plan.small(), 24, 4) if fast else (job.Plan(), 120, 16)
    begin, test = start(fast), tasks_of()[1][200:200 + n]       # the first 200 chose the rates
    with kernels(), progress(2 * plan.rounds + 3, "GRPO and its control") as tick:
        model, reports = job.by_reward(begin, plan, seed, tick)
        coins, heard = job.by_reward(begin, plan, seed, tick, random=True)
        rows = []
        for one in (begin.model, model, coins):
            rows.append(evaluate(begin, one, test, draws, seed, plan.settings.n))
            tick(1, f"{rows[-1]['greedy']:.0%} right")
    said = [[task.prompt, *(one["said"][i] for one in rows[:2])] for i, task in enumerate(test)]
    carried = [one for one, task in zip(said, test, strict=True) if adding.carries(task)]
    for one in rows:
        del one["said"]
    return Result(n, draws, plan.rounds, plan.settings.P, plan.settings.G,
                  [k for k in KS if k <= draws], rows,
                  [[r.reward for r in run] for run in (reports, heard)],
                  [r.silent for r in reports], said[:8], carried[:8])


def table(result):
    shown = [k for k in (1, 8) if k in result.ks] + result.ks[-1:]
    rows = [["model", "greedy", *(f"pass@{k}" for k in shown), "carry", "none", "forgotten",
             "KL, nats"]]
    for name, one in zip(NAMES, result.rows, strict=True):
        rows.append([name, f"{one['greedy']:.0%}",
                     *(f"{one['pass'][result.ks.index(k)]:.0%}" for k in shown),
                     *(f"{one[key]:.0%}" for key in ("with", "without", "forgot")),
                     f"{abs(one['kl']):.1f}"])
    return rows


def show(result):
    print_table(table(result), f"{result.prompts} sums never trained on")
    print_table([["prompt", *NAMES[:2]]] + result.samples, "the first eight sums")
    print_table([["prompt", *NAMES[:2]]] + result.carried, "the first eight with a carry")


def draw(result, path):
    """Left: the share of right answers by round. Right: pass@k of the three models."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.1), gridspec_kw={"wspace": .25})
    for curve, name, color in zip(result.curves, NAMES[1:], COLORS[1:], strict=True):
        width = max(1, len(curve) // 12)
        smooth = np.convolve(curve, np.ones(width) / width, "valid")
        left.plot(np.arange(1, len(curve) + 1), curve, color=color, lw=.7, alpha=.4)
        left.plot(np.arange(width, len(curve) + 1), smooth, color=color,
                  label=f"{name}: right answers (mean of {width} rounds)")
    left.plot(np.arange(1, len(result.silent) + 1), result.silent, color="#8a8a8a", lw=.8, ls=":",
              label="GRPO: groups with equal rewards")
    left.set(xlabel="round", ylabel="share of the round's answers, or groups", ylim=(0, 1))
    left.legend(fontsize=7.5, loc="upper left")
    for one, name, color in zip(result.rows, NAMES, COLORS, strict=True):
        right.plot(result.ks, one["pass"], "o-", ms=3.5, color=color, label=name)
    right.set(xlabel="k answers to a sum", ylabel="pass@k on unseen sums", xscale="log",
              ylim=(0, 1.02), xticks=result.ks, xticklabels=result.ks)
    right.minorticks_off()
    right.legend(fontsize=7.5, loc="center right")
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    begin, grpo, coins = result.rows
    return (f"With rewards for right results greedy accuracy on unseen sums goes from "
            f"{begin['greedy']:.0%} to {grpo['greedy']:.0%} and pass@1 from "
            f"{begin['pass'][0]:.0%} to {grpo['pass'][0]:.0%};\nwith coins for rewards they end "
            f"at {coins['greedy']:.0%} and {coins['pass'][0]:.0%}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
