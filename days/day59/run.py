"""Day 59 · GRPO on worked sums: right results are rewarded, and accuracy climbs; two controls."""

from dataclasses import dataclass

import numpy as np

from days.day59 import job
from days.day59.start import Recipe, demonstrations, start, tasks_of
from days.harness import kernels, main, print_table, progress, save

NAMES = ("the start", "GRPO", "coins for rewards", "its demonstrations again",
         "the asked sums demonstrated")
COLORS = "#8a8a8a", "#1f5a99", "#c0392b", "#b8860b", "#2e8b57"


@dataclass(frozen=True)
class Result:
    prompts: int          # sums of the test, on which all are judged
    draws: int            # answers sampled to each
    rounds: int           # updates of each run
    P: int                # prompts a round
    G: int                # answers to each
    ks: list              # k of pass@k
    rows: list            # [model, greedy accuracy, [pass@k, …], never right, KL, tokens]
    curves: list          # mean reward a round: of GRPO, of the coins (what answers had earned)
    silent: list          # share of groups with equal rewards, a round of GRPO
    samples: list         # [prompt, the start's greedy answer, GRPO's], the first eight


def measure(fast, seed):
    plan, n, draws = (job.Plan.small(), 8, 4) if fast else (job.Plan(), 120, 16)
    begin, recipe = start(fast), Recipe.small() if fast else Recipe()
    test, longest = tasks_of()[1][:n], plan.settings.n
    with kernels(), progress(4 * plan.rounds + 5, "GRPO and controls") as tick:
        model, reports = job.by_reward(begin, plan, seed, tick)
        coins, heard = job.by_reward(begin, plan, seed, tick, random=True)
        models = [begin.model, model, coins, *(
            job.by_demonstrations(begin, plan, seed, tick, examples)
            for examples in (demonstrations(begin.tokenizer, recipe), job.taught(begin, plan)))]
        judged = []
        for one in models:
            judged.append(job.evaluate(begin, one, test, draws, seed, longest))
            tick(1, f"{judged[-1]['greedy']:.0%} right")
    rows = [[name, one["greedy"], one["pass"], one["never"], one["kl"], one["tokens"]]
            for name, one in zip(NAMES, judged, strict=True)]
    return Result(n, draws, plan.rounds, plan.settings.P, plan.settings.G,
                  [k for k in job.KS if k <= draws], rows,
                  [[r.reward for r in run] for run in (reports, heard)],
                  [r.silent for r in reports],
                  [[task.prompt, *said] for task, *said in
                   zip(test[:8], judged[0]["said"], judged[1]["said"], strict=True)])


def table(result):
    shown = [k for k in (1, 8) if k in result.ks] + result.ks[-1:]
    rows = [["model", "greedy", *(f"pass@{k}" for k in shown), "KL from the start, nats",
             "tokens"]]
    for name, greedy, passed, _, kl, tokens in result.rows:
        rows.append([name, f"{greedy:.0%}", *(f"{passed[result.ks.index(k)]:.0%}" for k in shown),
                     f"{abs(kl):.1f}", f"{tokens:.1f}"])
    return rows


def show(result):
    print_table(table(result), f"{result.prompts} sums never trained on")
    print_table([["prompt", *NAMES[:2]]] + result.samples)


def draw(result, path):
    """Left: the mean reward by round. Right: pass@k of all models."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.1))
    for curve, name, color in zip(result.curves, NAMES[1:], COLORS[1:]):
        x = np.arange(1, len(curve) + 1)
        width = max(1, len(curve) // 12)
        smooth = np.convolve(curve, np.ones(width) / width, "valid")
        left.plot(x, curve, color=color, lw=.7, alpha=.4)
        left.plot(x[width - 1:], smooth, color=color, label=f"{name} (mean of {width} rounds)")
    left.plot(np.arange(1, len(result.silent) + 1), result.silent, color="#8a8a8a", lw=.8, ls=":",
              label="GRPO: groups without a signal")
    left.set(xlabel="round", ylabel="share of the round's sampled answers", ylim=(0, 1))
    left.legend(fontsize=7.5)
    for (name, _, passed, *_), color in zip(result.rows, COLORS):
        right.plot(result.ks, passed, "o-", ms=3.5, color=color, label=name)
    right.set(xlabel="k answers to a sum", ylabel="pass@k on unseen sums", xscale="log",
              ylim=(0, 1.02), xticks=result.ks, xticklabels=result.ks)
    right.minorticks_off()
    right.legend(fontsize=7.5, loc="lower right")
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    (_, greedy, passed, *_), (_, greedy2, passed2, *_), (_, _, coins, *_) = result.rows[:3]
    k = result.ks[-1]
    return (f"With rewards for right results pass@1 goes from {passed[0]:.0%} to {passed2[0]:.0%} "
            f"and pass@{k} from {passed[-1]:.0%} to {passed2[-1]:.0%};\n"
            f"with coins for rewards pass@1 ends at {coins[0]:.0%}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
