"""Day 57 · PPO with a small KL coefficient and with a dial: what labellers like, what is good."""

from dataclasses import dataclass

import numpy as np

from days.day57 import job
from days.day57.start import start
from days.harness import kernels, main, print_table, progress, save
from llm.align.kl import AdaptiveKL

SMALL, FIRST, TARGET, GAIN = 0.02, 2.0, 1.0, 0.5     # β held; β at first, nats, gain of the dial
NAMES = ["the start", f"β = {SMALL}, fixed", f"β adaptive, KL target {TARGET:g}"]


@dataclass(frozen=True)
class Result:
    prompts: int          # held-out ones, on which the three models are judged
    N: int                # answers a round
    rows: list            # [model, taste, truth, KL, fillers, tokens] on these prompts
    families: list        # [model, truth of sums, harmful, harmless]
    curves: list          # of the two runs, a dict of lists: score, truth, kl, k3, beta, …
    samples: list         # [prompt, the start's answer, small β's, adaptive β's]
    mismatch: float       # largest gap of the sampler's log-probabilities from training's, nats


def measure(fast, seed):
    plan, n = (job.Plan.small(), 18) if fast else (job.Plan(), 192)
    begin, total = start(fast), 2 * plan.rounds + 3
    asked = job.prompts(begin, n, np.random.default_rng(57), test=True)     # a fixed list
    models, curves, judged = [begin.model], [], []
    with kernels(), progress(total, "PPO") as tick:
        for dial in (AdaptiveKL(SMALL, gain=0), AdaptiveKL(FIRST, TARGET, GAIN)):
            model, rounds = job.train(begin, dial, plan, seed, tick)
            models.append(model)
            curves.append({key: [one[key] for one in rounds] for key in rounds[0]})
        for model in models:
            judged.append(job.evaluate(begin, model, asked, plan.settings.n, seed))
            tick(1)
    keys = ("taste", "truth", "kl", "fillers", "tokens")
    return Result(n, plan.settings.N,
                  [[name, *(one[key] for key in keys)] for name, one in zip(NAMES, judged)],
                  [[name, *one["families"]] for name, one in zip(NAMES, judged)], curves,
                  [[prompt, *said] for (_, prompt), *said in
                   zip(asked, *(one["said"] for one in judged))],
                  max(max(curve["mismatch"]) for curve in curves))


def table(result):
    rows = [["model", "taste", "true utility", "KL, nats an answer", "fillers", "tokens"]]
    for name, taste, truth, kl, fillers, tokens in result.rows:
        rows.append([name, f"{taste:+.2f}", f"{truth:+.2f}", f"{abs(kl):.2f}", f"{fillers:.2f}",
                     f"{tokens:.1f}"])
    return rows


def show(result):
    print_table(table(result), f"answers to {result.prompts} held-out prompts")
    print_table([["true utility of", "sums", "harmful", "harmless"]] + [
        [name, *(f"{x:+.2f}" for x in rest)] for name, *rest in result.families])
    print_table([["prompt", *NAMES]] + result.samples)
    print(f"sampler and training differ by at most {result.mismatch:.1e} nats a token")


def draw(result, path):
    """Left: both judges by round. Middle: the KL. Right: the coefficient."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.9), width_ratios=[1.5, 1, 1])
    for curve, name, color in zip(result.curves, ("β small", "β adaptive"),
                                  ("#c0392b", "#1f5a99")):
        x = range(1, len(curve["kl"]) + 1)
        axes[0].plot(x, curve["score"], color=color, ls="--", label=f"{name}: taste, rewarded")
        axes[0].plot(x, curve["truth"], color=color, label=f"{name}: true utility")
        axes[1].plot(x, curve["kl"], color=color, label=name)
        axes[2].plot(x, curve["beta"], color=color, label=name)
    axes[1].axhline(TARGET, color="#8a8a8a", ls=":", label="target")
    axes[0].set(xlabel="round", ylabel="mean of the round's answers")
    axes[1].set(xlabel="round", ylabel="KL from the start, nats an answer")
    axes[2].set(xlabel="round", ylabel="coefficient β", yscale="log")
    for axis in axes:
        axis.legend(fontsize=7.5, loc="upper left")
        axis.margins(y=.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[1].set_ylim(0, 1.35 * max(max(curve["kl"]) for curve in result.curves))
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    (_, *begin), (_, *small), (_, *held) = result.rows
    way = "falls" if small[1] < begin[1] else "rises"
    return (f"With a small β the labellers' taste rises by {small[0] - begin[0]:.1f} and the true "
            f"utility {way} by {abs(small[1] - begin[1]):.1f};\nwith the dial the changes are "
            f"{held[0] - begin[0]:+.1f} and {held[1] - begin[1]:+.1f}, and the KL is "
            f"{held[2]:.1f} instead of {small[2]:.1f} nats")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
