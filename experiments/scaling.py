"""Day 40 · Loss against parameters, data and compute: a sweep over real trainings.

    python experiments/scaling.py [--part rates sweep …] [--jobs 2] [--out DIR]

`rates` finds the best learning rate of several widths on a grid of steps of 1.5, and a rule through
them. `sweep` trains models of many sizes on equal budgets of FLOPs, on two texts, each at the
rule's rate. `giants` trains models of millions of parameters that the budgets are far too small
for. `repeat` holds model and steps fixed and gives fewer and fewer windows again and
again, beside runs that read each of these once and stop.
`predict` fits the law to the sweep's budgets up to KNOWN, writes down what NEXT will reach, and
only then trains it.

Processes of one thread each work side by side, for about half an hour on two quiet cores. Each
finished run is kept in DIR/scaling.json: stop with Ctrl-C and call again to go on.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):       # one thread a process
    os.environ[name] = "1"

from days.day40 import laws, models, rates  # noqa: E402
from days.harness import ROOT, prepare, progress, say, write_atomically  # noqa: E402
from llm.models.gpt import count_flops  # noqa: E402

TUNED = {"stories": [(12, 4e10), (16, 1.6e11), (32, 8e10), (32, 1.6e11), (64, 3.2e11)],
         "shakespeare": [(16, 8e10), (48, 1.6e11)]}
BUDGETS = {4e10: (8, 12, 16, 24, 32), 8e10: (8, 12, 16, 24, 32, 48),
           1.6e11: (8, 12, 16, 24, 32, 48, 64), 3.2e11: (12, 16, 24, 32, 48)}
KNOWN, NEXT = 1.6e11, 6.4e11     # predicted from the budgets up to KNOWN: one of NEXT
SEEDS = {"stories": {4e10: 3, 8e10: 3, 1.6e11: 2, 3.2e11: 1},
         "shakespeare": {4e10: 1, 8e10: 3, 1.6e11: 1, 3.2e11: 1}}
GIANTS = [(192, 3.2e11), (256, 3.2e11), (384, 3.2e11)]
REPEATED = (16, 800, (1, 2, 4, 8, 16, 32))     # width, steps, how often each window is met
PARTS = ("rates", "sweep", "repeat", "giants", "predict")


def plan(part, record):
    """The runs of a part that are not there yet, as far as they are known; cheapest first."""
    runs = record["runs"]
    if part == "rates":
        return [run for text, cells in TUNED.items() for C, budget in cells
                for run in grid(text, C, budget, runs)]
    if "rule" not in record:
        record["rule"] = rates.rule_of_rates(rates.best_rates(runs))
    if part == "predict" and "predictions" not in record:
        known = [run for run in runs if run.get("budget", 0) <= KNOWN]
        record["texts"] = {text: {"floor": models.data(text).floor,
                                  "tokens": models.data(text).tokens} for text in SEEDS}
        record["predictions"] = [laws.predict(known, text, NEXT, record["texts"][text]["floor"])
                                 for text in SEEDS]
    there = {key(run) for run in runs}
    wanted = [run | {"rate": rate_of(run, record["rule"][0])} for run in fixed(part, record)]
    return sorted((run for run in wanted if key(run) not in there),
                  key=lambda run: (run["seed"] > 0, run.get("budget", 0)))


def grid(text, C, budget, runs):
    """What is missing around the best rate: three rates first, then on beyond the edge."""
    seen = {run["rate"]: run["choose"] for run in runs
            if (run["part"], run["text"], run["C"], run["budget"]) == ("rates", text, C, budget)}
    start = round(math.log(0.3 / C / 0.01, 1.5))
    wanted = [rung(start + i) for i in (-1, 0, 1)]
    if all(rate in seen for rate in wanted):
        best, tried = min(seen, key=seen.get), sorted(seen)
        k = round(math.log(best / 0.01, 1.5))
        wanted = [rung(k - 1)] if best == tried[0] else [rung(k + 1)] if best == tried[-1] else []
    return [make("rates", text, C, models.steps_of(C, budget), 100, budget=budget, rate=rate)
            for rate in wanted if rate not in seen]


def rung(k):
    """The rates of the grid: 0.01 · 1.5^k."""
    return float(f"{0.01 * 1.5 ** k:.3g}")


def rate_of(run, rule):
    """k · C^p · steps^q."""
    k, p, q = rule
    return float(f"{k * run['C'] ** p * run['steps'] ** q:.4g}")


def make(part, text, C, steps, seed, **more):
    return {"part": part, "text": text, "C": C, "steps": steps, "seed": seed, **more}


def fixed(part, record):
    """The runs of the other parts, without their rates."""
    if part == "sweep":
        return [make(part, text, C, models.steps_of(C, budget), seed, budget=budget)
                for text, seeds in SEEDS.items() for budget, widths in BUDGETS.items()
                for seed in range(seeds[budget]) for C in widths]
    if part == "giants":
        return [make(part, "shakespeare", C, models.steps_of(C, budget), 0, budget=budget)
                for C, budget in GIANTS]
    if part == "repeat":
        C, steps, often = REPEATED
        return [make(name, text, C, n, seed, k=k) for text in SEEDS for seed in range(3)
                for k in often for name, n in (("repeat", steps), ("once", round(steps / k)))]
    if part == "predict":
        return [make(part, told["text"], told["C"], told["steps"], 0, budget=NEXT)
                for told in record["predictions"]]
    raise ValueError(f"no part {part!r}: there are {', '.join(PARTS)}")


def one(run):
    """Train and score one model; returns the run with what came of it."""
    began, cpu = time.perf_counter(), time.process_time()
    text, C, steps = models.data(run["text"]), run["C"], run["steps"]
    few = round(steps / run["k"]) if run["part"] == "repeat" else None
    model, done = models.train(text, C, run["rate"], steps, run["seed"], few)
    if done.interrupted:
        return None
    tokens = steps * models.T
    scored = {part: round(models.nats(model, getattr(text, part)), 5)
              for part in (("choose",) if run["part"] == "rates" else ("report",))}
    return {**run, "N": model.count_parameters(), "D": tokens,
            "flops": 3 * count_flops(models.config(C)) * tokens, "skipped": done.skipped,
            "last": round(sum(done.losses[-200:]) / len(done.losses[-200:]), 5), **scored,
            "seconds": round(time.perf_counter() - began, 1),
            "cpu": round(time.process_time() - cpu, 1)}


def key(run):
    """What makes a run this one: two runs of the same key are the same training."""
    names = ("part", "text", "C", "steps", "seed", "k")
    return tuple((k, run[k]) for k in names if k in run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "experiments", metavar="DIR")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side (2)")
    options = parser.parse_args()
    prepare(options.out)
    path = options.out / "scaling.json"
    record = json.loads(path.read_text()) if path.exists() else {"runs": []}
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for part in options.part:
            while todo := plan(part, record):                # the grid of rates may grow
                write(path, record)                          # predictions before their runs
                work(pool, part, todo, record, path)
    record["found"] = laws.found(record)
    write(path, record)
    say(f"{len(record['runs'])} runs are in {path}")


def write(path, record):
    lines = [json.dumps(run) for run in record["runs"]]
    rest = {name: value for name, value in record.items() if name != "runs"}
    text = "{" + "".join(f"\n{json.dumps(k)}: {json.dumps(v)}," for k, v in rest.items())
    text += '\n"runs": [\n' + ",\n".join(lines) + "\n]}\n"
    write_atomically(path, text.encode())


def work(pool, part, todo, record, path):
    """Make these runs, each kept as soon as it is done."""
    with progress(len(todo), part) as tick:
        for run in pool.imap_unordered(one, todo):
            if run is None:
                raise KeyboardInterrupt
            record["runs"].append(run)
            write(path, record)
            tick(1, f"{run['text']} C {run['C']}: {run.get('report', run.get('choose')):.3f}")


if __name__ == "__main__":
    main()
