"""Day 59 · GRPO over three seeds, against coins for rewards and against more demonstrations.

    python experiments/grpo.py              # about 6 minutes on two quiet cores; writes grpo.json

Each run goes on from the same start with as many updates on as many answers. A seed decides which
sums are asked, what is sampled, and the order of demonstrations. All are judged on the same sums,
which no run has trained on; rates were chosen on others, also held out.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from days.day59 import job
from days.day59.start import Recipe, demonstrations, start, tasks_of
from days.harness import kernels, machine, plain, progress, write_atomically

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
PLAN = job.Plan()
UNBIASED = replace(PLAN, settings=replace(PLAN.settings, baseline="others", divide=False,
                                          share="constant"))
RUNS = {                      # name: (start, seed, tick) -> model and mean rewards of its rounds
    "grpo": lambda *told: by_reward(PLAN, *told),
    "coins": lambda *told: by_reward(PLAN, *told, random=True),
    "unbiased": lambda *told: by_reward(UNBIASED, *told),
    "again": lambda begin, *told: shown(demonstrations(begin.tokenizer, Recipe()), begin, *told),
    "shown": lambda begin, *told: shown(job.taught(begin, PLAN), begin, *told),
}


def by_reward(plan, begin, seed, tick, random=False):
    model, reports = job.by_reward(begin, plan, seed, tick, random)
    return model, [report.reward for report in reports]


def shown(examples, begin, seed, tick):
    return job.by_demonstrations(begin, PLAN, seed, tick, examples), []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=RUNS, nargs="+", default=list(RUNS))
    parser.add_argument("--out", type=Path, default=HERE / "grpo.json")
    options = parser.parse_args()
    begin, test = start(), tasks_of()[1][:200]
    found = {}
    with kernels(), progress(PLAN.rounds * len(options.only) * len(options.seeds), "GRPO") as tick:
        for seed in options.seeds:
            found.setdefault("start", []).append(judged(begin, begin.model, test, seed))
            for name in options.only:
                model, rewards = RUNS[name](begin, seed, tick)
                one = judged(begin, model, test, seed)
                found.setdefault(name, []).append({**one, "rewards": rewards})
                record = {"rounds": PLAN.rounds, "prompts": len(test), "draws": 16,
                          "ks": list(job.KS), "seeds": list(options.seeds), "runs": found,
                          "machine": machine()}
                write_atomically(options.out, (json.dumps(plain(record), indent=1) + "\n").encode())


def judged(begin, model, test, seed):
    """What `evaluate` says, without the texts."""
    one = job.evaluate(begin, model, test, 16, seed, PLAN.settings.n)
    del one["said"], one["right"]
    return one


if __name__ == "__main__":
    main()
