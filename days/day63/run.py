"""Day 63 · Which differences are real: a part of the study again, and habits that find too much."""

from dataclasses import dataclass, replace

import numpy as np

from days.day63 import simulate
from days.day63.few_seeds import paired
from days.day63.parts import Recipe
from days.day63.plan import PLAN, Plan
from days.day63.ranking import forest, shown
from days.day63.study import committed, summary
from days.day63.trial import run
from days.day63.variants import AGAIN, BASELINE
from days.harness import main, print_table, print_text, progress, save
from llm.data.text import load_or_default

NOW = (BASELINE, AGAIN, "RMSNorm", "post-norm")
NUMBERS = (1, 2, 3, 5, 8, 12, 20, 30)


@dataclass(frozen=True)
class Result:
    corpus: str
    study: dict           # the committed record's main numbers, and its ranking
    repeated: list        # [variant, rate, losses now, losses in the committed record]
    asked: int            # of these losses, also in the committed record
    same: int             # … and equal to the last bit
    compared: list        # [variant, mean difference to the baseline now, low, high, p]
    alarms: list          # [equal variants, share of studies with a false verdict, with Holm]
    curse: list           # of the best of as many as the study has: screened, and fresh
    several: int          # … so many
    peeking: float        # false verdicts where one looks after each seed from 3 to 12
    dropped: float        # … where one of six seeds may be left out
    intervals: list       # 95 % intervals from 5 numbers that hold the mean: t, bootstrap
    pairing: list         # studies of 5 seeds that find a difference of one spread: paired, not
    correlation: float    # of two runs of a seed in that simulation
    n: int                # seeds in the simulated comparisons


def measure(fast, seed):
    rng, record = np.random.default_rng(seed), committed()
    plan = Plan.small() if fast else PLAN
    seeds = plan.report[:2] if fast else plan.report[:3]
    names = [name for name in NOW if name in plan.variants() and name in record["variants"]]
    rows, studies = [], 400 if fast else 4000
    with progress(len(names) * len(seeds) + len(NUMBERS), "runs and simulations") as tick:
        for name in names:
            rate = 0.01 if fast else record["variants"][name]["rate"]
            now = []
            for s in seeds:
                task = plan.task(name, rate, s, s)
                now.append(run(replace(Recipe(), **task["change"]), rate, task["start"],
                               task["order"])["report"])
                tick(1, f"{name}: {now[-1]:.3f}")
            before = [] if fast else record["variants"][name]["losses"][:len(seeds)]
            rows.append([name, rate, now, before])
        alarms = []
        for m in NUMBERS:
            alarms.append([m, *simulate.false_alarms(m, 6, studies, rng)])
            tick()
    several = record["tests"]
    return Result(
        load_or_default().name, summary(record), rows, sum(len(row[3]) for row in rows),
        sum(a == b for _, _, now, then in rows for a, b in zip(now, then, strict=False)),
        [[name, *(paired(now, rows[0][2])[k] for k in ("mean", "low", "high", "p"))]
         for name, _, now, _ in rows[1:]],
        alarms, list(simulate.winners_curse(several, 5 * studies, rng)), several,
        simulate.peeking(3, 12, studies, rng), simulate.dropped_seed(6, studies, rng),
        list(simulate.coverage(5, studies // 2, rng)),
        list(simulate.pairing(0.8, 1.0, 5, studies, rng)), 0.8, 6)


def table(result):
    rows = [["variant", "nats less the baseline's", "95 % interval", "p alone", "p, Holm",
             "verdict"]]
    for name, mean, low, high, p, holm, real in result.study["ranking"]:
        verdict = ("better" if mean < 0 else "worse") if real else "cannot be told apart"
        rows.append([name, f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}", shown(p),
                     shown(holm), verdict])
    return rows


def show(result):
    study = result.study
    print_table(table(result), f"the committed study: {study['seeds']} seeds, {study['runs']} runs")
    print_table([["repeated now", "rate", "nats", "in the record"]] + [
        [name, f"{rate:.3g}", ", ".join(f"{x:.4f}" for x in now),
         ", ".join(f"{x:.4f}" for x in then)] for name, rate, now, then in result.repeated],
        f"{result.same} of {result.asked} are the same to the last bit")
    print_table([["equal variants", "false verdicts", "with Holm"]] + [
        [m, f"{plain:.3f}", f"{holm:.3f}"] for m, plain, holm in result.alarms])
    print_text(
        f"looking after every seed: {result.peeking:.3f}; dropping one: {result.dropped:.3f}; "
        f"best of {result.several}: {result.curse[0]:+.2f} spreads, then {result.curse[1]:+.2f}")


def draw(result, path):
    """Left: the study, the best on top. Right: false verdicts in studies without any effect."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 5.6), width_ratios=(3, 2))
    ranking = result.study["ranking"]
    rows = {name: {"mean": mean, "low": low, "high": high, "real": real}
            for name, mean, low, high, _, _, real in ranking}
    forest(left, {"variants": rows}, [row[0] for row in ranking])
    left.set_xlabel("nats a character less the baseline's, 95 % interval;\nlinear within ±0.05, "
                    "then logarithmic; filled: real")
    m = [row[0] for row in result.alarms]
    right.plot(m, [row[1] for row in result.alarms], "o-", color="C3", label="each test at 5 %")
    right.plot(m, [row[2] for row in result.alarms], "o-", color="C0", label="with Holm")
    right.axhline(0.05, color="0.5", lw=0.8, ls=":")
    right.set(xlabel="variants, all equal to the baseline", ylim=(0, None),
              ylabel="share of studies with a false verdict")
    right.legend(loc="upper left")
    real = sum(row[-1] for row in ranking)
    fig.suptitle(f"{real} of {len(ranking)} differences are real after Holm's correction; without "
                 "it, equal\nvariants alone would give false verdicts", x=0.01, ha="left",
                 fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
