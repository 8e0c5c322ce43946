"""Day 58 · DPO, IPO and ORPO on the same pairs, each at its own best rate, and DPO over β.

    python experiments/preferences.py [--fast] [--json] [--out DIR]

Day 57's start, a model that answers without a taste, is the reference of all. Labels are drawn with
probability σ(u(a) − u(b)), so the optimum for each β is known exactly (day 58's `frontier`).

Rates are tried in steps of 1.5 from a first guess on, until the best one has a worse one on either
side; what counts is the mean utility of sampled answers to one half of the held-out prompts. Fresh
seeds (of the pairs, of their order, of the sampling) at that rate are scored on the other half.

One thread takes about four minutes. Finished runs are kept in DIR/preferences.json: stop with
Ctrl-C and call again to go on.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from days.day57.start import start
from days.day58 import study
from days.harness import ROOT, kernels, machine, plain, print_table, progress, say, write_atomically
from llm.data.preferences import pairs as draw_pairs

SETTINGS = {"dpo": {"beta": 0.5}, "ipo": {"tau": 0.5}, "orpo": {"weight": 1.0}}
FIRST = {"dpo": 4e-4, "ipo": 6e-4, "orpo": 9e-4}        # rates tried first
BETAS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Plan:
    """All that decides the numbers."""

    pairs: int = 640               # to learn from, each seen once
    B: int = 16                    # pairs a batch
    steps: int = 40
    test: int = 64                 # held-out pairs
    prompts: int = 48              # held-out prompts to choose on, and as many to report
    A: int = 2                     # answers sampled to each
    ratio: float = 1.5             # between neighbours
    seeds: tuple = (1, 2, 3)       # fresh ones

    @classmethod
    def small(cls):
        return cls(pairs=64, steps=4, test=8, prompts=8, seeds=(1, 2))


class Lab:
    """Runs by name; a finished one is read from the file instead."""

    def __init__(self, plan, fast, path):
        self.plan, self.path, self.reference = plan, path, start(fast)
        rng = np.random.default_rng(580)
        self.prompts = study.held_out_prompts(plan.prompts, rng)
        self.test = study.encoded(self.reference, draw_pairs(plan.test, rng, test=True))[0]
        self.runs = {}
        about = plain(asdict(plan)) | {"fast": fast}
        if path.exists() and (kept := json.loads(path.read_text())).get("settings") == about:
            self.runs = kept["runs"]
        self.about = about

    def run(self, method, rate, seed, report=False, **settings):
        """Train and measure once. The half of the prompts is the one to report on, or not."""
        half = "report" if report else "choose"
        name = json.dumps([method, f"{rate:.3g}", seed, half, settings])
        if name not in self.runs:
            rng = np.random.default_rng([58, seed])
            learned, _ = study.encoded(self.reference, draw_pairs(self.plan.pairs, rng))
            with progress(self.plan.steps, f"{method} at {rate:.2g}") as tick:
                policy = study.train(self.reference, learned, method, rate, self.plan.steps, seed,
                                     self.plan.B, tick, **settings)
            self.runs[name] = plain({"rate": rate} | study.on_pairs(policy, self.test)
                                    | self.asked(policy, half, seed))
            self.keep()
        return self.runs[name]

    def asked(self, policy, half, seed=0):
        return study.on_prompts(policy, self.reference, getattr(self.prompts, half), seed,
                                self.plan.A)

    def keep(self, **more):
        record = {"settings": self.about, "machine": machine(), **more, "runs": self.runs}
        write_atomically(self.path, (json.dumps(plain(record), indent=1) + "\n").encode())


def climb(lab, method, **settings):
    """{rate: utility} from the first guess on, until the best rate is inside."""
    found, try_at = {}, [0, 1, -1]
    while try_at:
        for k in try_at:
            rate = FIRST[method] * lab.plan.ratio ** k
            found[k] = lab.run(method, rate, 0, **settings)["utility"]
        best = max(found, key=found.get)
        try_at = [k for k in (best - 1, best + 1) if k not in found]
    return {FIRST[method] * lab.plan.ratio ** k: found[k] for k in sorted(found)}


def summary(runs):
    """Mean, lowest and highest of every number over seeds."""
    flat = [{**r, **{f"on_{f}": u for f, u in r["by_family"].items()}} for r in runs]
    return {key: {"mean": statistics.mean(v), "lowest": min(v), "highest": max(v)}
            for key in flat[0] if key != "by_family" and (v := [r[key] for r in flat])}


def measure(fast, path, only=None):
    """Everything; or the runs of one method, which a later call finds in the file."""
    plan = Plan.small() if fast else Plan()
    lab, grids, methods = Lab(plan, fast, path), {}, {}
    with kernels():
        for method, settings in SETTINGS.items():
            if only and method != only:
                continue
            grid = climb(lab, method, **settings)
            best = max(grid, key=grid.get)
            grids[method] = [[rate, u] for rate, u in grid.items()]
            methods[method] = summary([lab.run(method, best, seed, True, **settings)
                                       for seed in plan.seeds])
            methods[method] |= {"rate": best, "settings": settings}
        if only:
            return {"methods": methods}
        rate = methods["dpo"]["rate"]
        betas = [[beta, lab.run("dpo", rate, plan.seeds[0], True, beta=beta)] for beta in BETAS]
        reference = lab.asked(lab.reference.model, "report")
    optimum = study.frontier(lab.prompts.report, (0.0625, 0.125, *BETAS, 4, 8))
    lab.keep(grids=grids, methods=methods, betas=betas, reference=reference, optimum=optimum)
    return json.loads(path.read_text())


def table(result):
    rows = [["", "rate", "utility", "KL", "margin", "ln π chosen", "tokens", "declined",
             "over-refused"]]
    for method, m in result["methods"].items():
        rows.append([method, f"{m['rate']:.2g}"] + [
            f"{m[key]['mean']:.2f} ({m[key]['lowest']:.2f} … {m[key]['highest']:.2f})"
            for key in ("utility", "kl", "margin", "chosen", "tokens", "declined",
                        "over_refused")])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a minute: does it run?")
    parser.add_argument("--only", choices=SETTINGS, help="the runs of one method, no more")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs", metavar="DIR",
                        help="where preferences.json goes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        result = measure(options.fast, options.out / "preferences.json", options.only)
    except KeyboardInterrupt:
        say("stopped; call again to go on")
        sys.exit(130)
    if options.json:
        print(json.dumps(result))
    else:
        print_table(table(result))


if __name__ == "__main__":
    main()
