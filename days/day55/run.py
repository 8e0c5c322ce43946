"""Day 55 · Six ways to teach a small model one task: numbers, memory, time, loss, and serving."""

from dataclasses import asdict, dataclass

import numpy as np

from days.day55.methods import METHODS, Plan, Task, score, serving, step_memory, step_times
from days.harness import main, print_table, progress, save
from llm.tune.fast_lora import fast as kernels

# Each method's best rate on the grid of experiments/adapters.py.
RATES = {"everything": 0.0050625, "adapters": 0.0225, "LoRA": 0.01, "prefix": 0.151875,
         "BitFit": 0.0759375, "prompt": 0.10125}


@dataclass(frozen=True)
class Result:
    plan: dict
    before: list          # [nats an answer token, share right] of the base
    methods: list         # of {method, trained, memory (bytes), step (ms), nats [start, end],
    #                       right, losses}
    serving: list         # [what, ms a text, numbers that it adds to the cache]


def measure(fast, seed):
    """`fast` uses the tiny tuned model of day 53 and few steps."""
    plan = Plan(12, B=4, drawn=200, width=4, rank=2, P=6, warmup=2) if fast else Plan(120)
    task, found = Task(fast, plan), []
    memory = {method: step_memory(task, method) for method in METHODS}      # plain NumPy, day 60's
    with kernels(), progress(len(METHODS) * plan.steps, "six methods") as tick:
        for method in METHODS:
            losses, start = [], task.model(method, seed)
            model = task.train(method, RATES[method], seed, losses=losses,
                               hooks=[lambda step, m=method: tick(1, f"{m}, loss {step.loss:.2f}")])
            nats, right = score(model, task.report)
            found.append({"method": method, "trained": model.count_parameters(),
                          "memory": memory[method], "nats": [score(start, task.report)[0], nats],
                          "right": right, "losses": losses})
        times = step_times(task, 3 if fast else 12)
        served = serving(task, 3 if fast else 100, T=8 if fast else 32)
    for row in found:
        row["step"] = times[row["method"]]
    return Result(asdict(plan), list(score(task.start.model, task.report)), found, served)


def table(result):
    rows = [["trained", "numbers", "memory of a step, MB", "ms a step", "nats at the start",
             "nats after", "right"]]
    for row in result.methods:
        rows.append([row["method"], f"{row['trained']:,}", f"{row['memory'] / 1e6:.1f}",
                     f"{row['step']:.1f}", f"{row['nats'][0]:.2f}", f"{row['nats'][1]:.3f}",
                     f"{100 * row['right']:.0f} %"])
    return rows


def show(result):
    p = result.plan
    print_table(table(result), f"{p['steps']} steps of {p['B']} sums; the base: "
                f"{result.before[0]:.2f} nats, {100 * result.before[1]:.0f} % right")
    print_table([["serving", "ms a text", "numbers it adds to the cache"]] + [
        [name, f"{ms:.2f}", f"{kept:,}"] for name, ms, kept in result.serving])


def draw(result, path):
    """Left: the loss, step by step. Right: the loss at the end against the numbers trained."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4), width_ratios=[1.2, 1])
    colors = ("#1b4965", "#c8553d", "#6a994e", "#8e5aa8", "#b08900", "#555555")
    for row, color in zip(result.methods, colors):
        smooth = np.convolve(row["losses"], np.ones(5) / 5, "valid")
        left.plot(np.arange(len(smooth)) + 3, smooth, color=color, lw=1.3, label=row["method"])
        right.plot(row["trained"], row["nats"][1], "o", color=color)
        side = "right" if row["method"] in ("everything", "prompt", "BitFit") else "left"
        right.annotate(f"{row['method']}, {100 * row['right']:.0f} % right",
                       (row["trained"], row["nats"][1]), (-7 if side == "right" else 7, -11 if
                       row["method"] == "adapters" else 2), textcoords="offset points",
                       fontsize=8.5, ha=side)
    left.set(xlabel="step", ylabel="nats an answer token", yscale="log",
             title="training loss, mean of five steps")
    left.legend(fontsize=8)
    right.set(xscale="log", yscale="log", xlabel="numbers trained", ylabel="nats, held out",
              title="after training")
    numbers = [row["trained"] for row in result.methods]
    right.set_xlim(min(numbers) / 90, 3 * max(numbers))
    right.margins(y=.15)
    best = min(result.methods, key=lambda row: row["nats"][1])
    worst = max(result.methods, key=lambda row: row["nats"][1])
    fig.suptitle(f"Two numbers, exchanged: {best['method']} gets {100 * best['right']:.0f} % "
                 f"right, {worst['method']} {100 * worst['right']:.0f} %", x=.01, ha="left",
                 fontsize=10.5)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
