"""Day 57 · Reward hacking and the KL: several coefficients, three seeds each.

    python experiments/rlhf.py              # about 4 minutes on two quiet cores; writes rlhf.json

Each run is one of day 57's: PPO from the same start, rewarded by the labellers' taste. What is
compared is the coefficient of the KL; the prompts of training and the sampling differ by seed.
`own` is the control: the true utility itself is the reward, with the small coefficient.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from days.day57 import job, run
from days.day57.start import start
from days.harness import kernels, machine, plain, progress, write_atomically
from llm.align.kl import AdaptiveKL

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
RUNS = {                      # name: (dial, judge)
    "small": (lambda: AdaptiveKL(run.SMALL, gain=0), job.taste),
    "dial": (lambda: AdaptiveKL(run.FIRST, run.TARGET, run.GAIN), job.taste),
    "own": (lambda: AdaptiveKL(run.SMALL, gain=0), job.truth),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=RUNS, nargs="+", default=list(RUNS))
    parser.add_argument("--out", type=Path, default=HERE / "rlhf.json")
    options = parser.parse_args()
    begin, plan = start(), job.Plan()
    asked = job.prompts(begin, 192, np.random.default_rng(57), test=True)
    found = {}
    with kernels(), progress(plan.rounds * len(options.only) * len(options.seeds), "PPO") as tick:
        for seed in options.seeds:
            found.setdefault("start", []).append(judged(begin, begin.model, asked, plan, seed))
            for name in options.only:
                dial, judge = RUNS[name]
                model, rounds = job.train(begin, dial(), plan, seed, tick, judge)
                one = judged(begin, model, asked, plan, seed)
                one["curve"] = {key: [r[key] for r in rounds] for key in ("truth", "kl", "beta")}
                found.setdefault(name, []).append(one)
                record = {"rounds": plan.rounds, "seeds": list(options.seeds), "runs": found,
                          "machine": machine()}
                write_atomically(options.out, (json.dumps(plain(record), indent=1) + "\n").encode())


def judged(begin, model, asked, plan, seed):
    """What `evaluate` says, without the texts."""
    one = job.evaluate(begin, model, asked, plan.settings.n, seed)
    del one["said"]
    return one


if __name__ == "__main__":
    main()
