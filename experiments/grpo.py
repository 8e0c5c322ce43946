"""Day 59 · GRPO over three seeds against four controls, each at a rate of its own choice.

    python experiments/grpo.py                    # about 25 minutes of one core; writes grpo.json
    python experiments/grpo.py --only grpo own    # some of it, perhaps beside another process

Each run goes on from the same start with as many updates on as many answers. First the rate of each
is chosen, by pass@1 on one part of the test, on a grid with steps of 1.5 that goes on until its
best rate is not at an end. Of rates within half a point of the best the lowest is taken. Then three
other seeds are judged on another part. A seed decides which sums are asked, what is sampled, and
the order of demonstrations. What is in the file already is not measured again; `--again` forgets
it. With --rate nothing is chosen.
"""

import argparse
import fcntl
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from days.day53 import base as before
from days.day53.tuned import tuned
from days.day59 import adding, job
from days.day59.judged import KS, evaluate
from days.day59.start import Recipe, demonstrations, start, tasks_of
from days.harness import kernels, machine, plain, progress, write_atomically

HERE = Path(__file__).resolve().parent
SEEDS, CHOOSING, STEP, TIE = (0, 1, 2), 9, 1.5, 0.005
PLAN = job.Plan(rounds=150)
PARTS = slice(0, 200), slice(200, 400)          # of the test: to choose on, to report on
RATES = {"grpo": 3e-4, "own": 4.5e-4, "again": 1.5e-3, "shown": 1.5e-3, "direct": 3e-4}  # at first
TOLD = "coins", "longer"                        # they take the rate of "grpo"


def run(name, begin, plan, seed, tick):
    """One run -> the model, the reward of each round, the share of groups with equal rewards."""
    if name in ("again", "shown"):
        examples = (demonstrations(begin.tokenizer, Recipe()) if name == "again"
                    else job.taught(begin, plan))
        return job.by_demonstrations(begin, plan, seed, tick, examples), [], []
    if name == "own":
        return *job.by_own_answers(begin, plan, seed, tick), []
    others = ({"pool": adding.direct(np.random.default_rng(59))[0], "rule": adding.result_only}
              if name == "direct" else {"random": name == "coins"})
    model, reports = job.by_reward(begin, plan, seed, tick, **others)
    return model, [one.reward for one in reports], [one.silent for one in reports]


def place(name):
    """The start, the plan, the tasks to choose on and to report on, and the rule."""
    if name != "direct":
        plan = replace(PLAN, rounds=2 * PLAN.rounds) if name == "longer" else PLAN
        return start(), plan, *(tasks_of()[1][part] for part in PARTS), adding.reward
    test, model = adding.direct(np.random.default_rng(59))[1], tuned()
    plan = replace(PLAN, settings=replace(PLAN.settings, n=6))
    return (replace(model, recipe=before.Recipe()), plan, test[:len(test) // 2],
            test[len(test) // 2:], adding.result_only)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[*RATES, *TOLD], nargs="+", default=[*RATES, *TOLD])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--rate", type=float, help="instead of choosing")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "grpo.json")
    options = parser.parse_args()
    if options.again and options.out.exists():
        options.out.unlink()
    with kernels():
        for name in options.only:
            measure(name, options.out, options.seeds, options.rate)


def measure(name, out, seeds=SEEDS, rate=None):
    """All that is missing of one row: its start, its rates unless one is given, its seeds."""
    begin, plan, choose, report, rule = place(name)
    kept = lambda key: read(out)["runs"].get(key)

    def one(rate, seed, tasks, n, label):
        with progress(plan.rounds, f"{name} {label}") as tick:
            model, rewards, silent = run(name, begin, replace(plan, rate=rate), seed, tick)
        return {**judged(begin, model, tasks, n, seed, plan, rule), "rewards": rewards,
                "silent": silent, "rate": rate}

    where = "direct start" if name == "direct" else "start"
    if kept(where) is None:
        add(out, "runs", where, [judged(begin, begin.model, report, 16, seed, plan, rule)
                                 for seed in SEEDS])
    if rate is None:
        rate = read(out)["best"]["grpo"] if name in TOLD else best(name, out, lambda rate: one(
            rate, CHOOSING, choose, 8, f"rate {rate:.2g}")["pass"][0])
        add(out, "best", name, rate)
    for seed in seeds:
        if seed not in [known["seed"] for known in kept(name) or []]:
            add(out, "runs", name, [one(rate, seed, report, 16, f"seed {seed}")])


def judged(begin, model, tasks, n, seed, plan, rule):
    """What `evaluate` says, without the texts."""
    found = evaluate(begin, model, tasks, n, seed, plan.settings.n, rule)
    del found["said"]
    return {**found, "seed": seed}


def best(name, out, accuracy):
    """The lowest rate within TIE of the best accuracy; the grid grows until the best has lower
    ones on both sides."""
    rates = dict(read(out)["rates"].get(name, []))
    ahead = [RATES[name] / STEP, RATES[name]]
    while ahead:
        for rate in ahead:
            if not any(np.isclose(rate, known) for known in rates):
                rates[rate] = accuracy(rate)
                add(out, "rates", name, sorted(rates.items()))
        top = max(rates, key=rates.get)
        ahead = ([min(rates) / STEP] if top == min(rates) else
                 [max(rates) * STEP] if top == max(rates) else [])
    return min(rate for rate in rates if rates[rate] >= rates[top] - TIE)


def read(out):
    """What has been measured so far."""
    return {"rounds": PLAN.rounds, "answers": PLAN.settings.P * PLAN.settings.G, "draws": 16,
            "tests": len(range(*PARTS[1].indices(10**6))), "seeds": list(SEEDS), "ks": list(KS),
            "shown": Recipe().shown,
            "rates": {}, "best": {}, "runs": {}, "summary": {}, "machine": machine(),
            **(json.loads(out.read_text()) if out.exists() else {})}


def add(out, kind, key, value):
    """Read anew under a lock, so that processes do not undo each other's work, and write."""
    with open(out.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = read(out)
        if kind == "runs":              # a list, one a seed
            known = {one["seed"]: one for one in [*record["runs"].get(key, []), *value]}
            value = [known[seed] for seed in sorted(known)]
        record[kind][key] = value
        record["summary"] = {name: summary(runs, record["ks"])
                             for name, runs in record["runs"].items()}
        write_atomically(out, (json.dumps(plain(record), indent=1) + "\n").encode())


def summary(runs, ks):
    """Of each number that the runs share: its mean, lowest and highest, pass@k one by one."""
    flat = [{**one, **{f"pass@{k}": value for k, value in zip(ks, one["pass"], strict=True)},
             "mixed": 1 - np.mean(one.get("silent") or [1])} for one in runs]
    kinds = [key for key, value in flat[0].items() if isinstance(value, float)]
    return {key: {"mean": float(np.mean([one[key] for one in flat])),
                  "lowest": float(min(one[key] for one in flat)),
                  "highest": float(max(one[key] for one in flat))} for key in kinds}


if __name__ == "__main__":
    main()
