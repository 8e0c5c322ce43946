"""Day 55 · Six ways to fine-tune one model on one task, each at its own best rate.

    python experiments/adapters.py [--fast] [--json] [--out DIR]

Day 53's tuned model learns to answer "12 + 19 =" with "19 12" (exchange): all of it, or a method of
today's. Adapters, LoRA and the prefix have about 20,000 numbers each; BitFit and the prompt have
fewer, because there are no more of them. One control asks for words that the model knows, "It is
31." (phrase), of some of the methods; another gives LoRA one half of each block only.

Everything is compared as in modern_parts.py (day 48), whose machinery this borrows: each with its
own best rate from a grid of steps of 1.5 that grows until the best one is inside, chosen on one
half of the held-out sums; fresh seeds scored on the other half, and compared seed by seed.

One thread takes about five minutes (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1). Finished runs are
kept in DIR/adapters.json: stop with Ctrl-C and call again to go on.
"""

import dataclasses
import functools
import statistics
import time

from days.day55.methods import HALVES, METHODS, Plan, Task, score
from days.harness import (
    print_table,
    progress,
    save,
)
from experiments.modern_parts import best_rate, compare, kept, write
from experiments.study import command_line
from llm.tune.fast_lora import fast

TRIED = [*(("exchange", m) for m in (*METHODS, *HALVES)),
         *(("phrase", m) for m in ("everything", "LoRA", "prefix", "prompt"))]
BEGIN = {"everything": 1e-3, "adapters": 1e-2, "LoRA": 1e-2, "prefix": 3e-2, "BitFit": 1.5e-2,
         "prompt": 3e-2, **dict.fromkeys(HALVES, 1e-2)}    # the middle of the first three rates
COMPARED = [(f"{task}: {this} less {that}", f"{task}, {this}", f"{task}, {that}")
            for task, this, that in [
                ("exchange", "adapters", "everything"), ("exchange", "LoRA", "everything"),
                ("exchange", "adapters", "LoRA"), ("exchange", "prefix", "LoRA"),
                ("exchange", "BitFit", "LoRA"), ("exchange", "BitFit", "prefix"),
                ("exchange", "prompt", "prefix"),
                ("exchange", "LoRA, feed-forward", "LoRA, attention"),
                ("exchange", "adapters", "LoRA, feed-forward"), ("phrase", "LoRA", "everything"),
                ("phrase", "prefix", "LoRA"), ("phrase", "prompt", "prefix")]]


@dataclasses.dataclass(frozen=True)
class Study:
    """What is held equal; runs are kept only where all of it is the same."""

    small: bool = False                  # day 53's tiny model
    plan: Plan = Plan(120)
    factor: float = 1.5                  # between neighbours on the grid
    choose: tuple = (0,)                 # seeds on the grid
    report: tuple = (10, 11, 12)         # fresh seeds at the best rate

    @classmethod
    def tiny(cls):
        """For --fast: everything happens, on little."""
        return cls(small=True, plan=Plan(2, B=4, drawn=200, width=2, rank=1, P=4, warmup=1),
                   report=(10, 11))

    def first_rates(self, method):
        """Where its grid begins."""
        steps = (1,) if self.small else (1 / self.factor, 1, self.factor)
        return tuple(round(BEGIN[method] * step, 7) for step in steps)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What `best_rate` asks of a plan."""

    first_rates: tuple
    factor: float


def one_run(task, record, path, key, part):
    """The run of this key, made now if it is not in the record."""
    for run in record["runs"]:
        if key.items() <= run.items():
            return run
    began = time.process_time()
    model = task.train(key["method"], key["rate"], key["seed"])
    nats, right = score(model, getattr(task, part))
    record["runs"].append(key | {"nats": round(nats, 5), "right": round(right, 4),
                                 "parameters": model.count_parameters(),
                                 "seconds": round(time.process_time() - began, 3)})
    write(record, path)
    return record["runs"][-1]


def measure(study, path, tried=TRIED):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    record = kept(path, study)
    tasks = {name: Task(study.small, study.plan, name) for name in dict(tried)}
    with fast(), progress(len(tried) * (4 + len(study.report)), "runs") as tick:
        for name, method in tried:
            def run(rate, seed, part, name=name, method=method):
                key = {"task": name, "method": method, "rate": rate, "seed": seed, "part": part}
                tick(1, f"{name}, {method}, rate {rate:.2g}")
                return one_run(tasks[name], record, path, key, part)

            def on_grid(run, rate):
                return statistics.mean(run(rate, seed, "choose")["nats"] for seed in study.choose)

            best, grid = best_rate(Grid(study.first_rates(method), study.factor),
                                   functools.partial(on_grid, run))
            runs = [run(best, seed, "report") for seed in study.report]
            losses = [one["nats"] for one in runs]
            record["variants"][f"{name}, {method}"] = {
                "parameters": runs[0]["parameters"], "rate": best, "grid": grid, "nats": losses,
                "mean": statistics.mean(losses), "lowest": min(losses), "highest": max(losses),
                "right": [one["right"] for one in runs]}
            write(record, path)
        record["before"] = {name: score(task.start.model, task.report)
                            for name, task in tasks.items()}
    names = record["variants"].keys()
    record["compared"] = [compare(record["variants"], what, [this], [that])
                          for what, this, that in COMPARED if {this, that} <= names]
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def tables(record):
    """Two: what was trained, and what can be told apart."""
    models = [["task, method", "parameters", "best rate", "nats", "lowest", "highest", "right"]]
    for name, v in record["variants"].items():
        models.append([name, f"{v['parameters']:,}", f"{v['rate']:.2g}", f"{v['mean']:.3f}",
                       f"{v['lowest']:.3f}", f"{v['highest']:.3f}",
                       f"{100 * statistics.mean(v['right']):.0f} %"])
    pairs = [["difference", "nats", "99 %", "verdict"]]
    for c in record["compared"]:
        pairs.append([c["what"], f"{c['mean']:+.4f}", f"± {c['half']:.4f}",
                      "told apart" if c["told_apart"] else "cannot be told apart"])
    return models, pairs


def show(record):
    models, pairs = tables(record)
    print_table(models, f"{record['settings']['plan']['steps']} steps; before them "
                + ", ".join(f"{name} {nats:.2f} nats" for name, (nats, _) in
                            record["before"].items()))
    print_table(pairs, f"{len(record['settings']['report'])} fresh seeds")


def draw(record, path):
    """For each task: loss against rate on the grid, and the fresh seeds at the best rate."""
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(9.4, 4.2), width_ratios=[1.25, 1])
    styles = dict(zip(METHODS, (("#1b4965", "o"), ("#c8553d", "s"), ("#6a994e", "^"),
                                ("#8e5aa8", "D"), ("#b08900", "v"), ("#555555", "P"))))
    for place, name in zip(axes, ("exchange", "phrase")):
        for method, (color, marker) in styles.items():
            v = record["variants"].get(f"{name}, {method}")
            if v:
                place.plot(*zip(*v["grid"]), "-", marker=marker, ms=4.5, lw=1, color=color,
                           label=f"{method}, {v['parameters']:,}")
                place.plot([v["rate"]] * len(v["nats"]), v["nats"], marker, ms=8, mfc="none",
                           color=color)
        place.set(xscale="log", yscale="log", xlabel="rate", title=name)
        place.legend(fontsize=7.5, title="trained numbers", title_fontsize=7.5)
    axes[0].set_ylabel("nats an answer token")
    fig.suptitle("Held-out loss on the grid (small), and of fresh seeds at the best rate (open)",
                 x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def main():
    command_line("adapters", __doc__, Study(), Study.tiny(), measure, show, draw)


if __name__ == "__main__":
    main()
