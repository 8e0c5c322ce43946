"""Day 36 · The best peak rate of a small GPT, and what forgetting the step does at each.

    python experiments/resuming.py      # about five minutes; writes experiments/resuming.json

A whole run on other schedules is the control: a plateau at the peak rate, then a line down to 0
over the last 50 or 20 per cent of the steps. Rates a factor of 1.5 apart, three seeds, scored
on the first half of the validation text; day 36 reports on the second half.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from days.day35 import job
from days.day36 import study
from days.harness import kernels, machine, progress, write_atomically
from llm.train.schedule import WarmupStableDecay

RATES, SEEDS, DECAYS = (4e-3, 6e-3, 9e-3), (0, 1, 2), (0.5, 0.2)
WAYS = {name: study.WAYS[name] for name in ("the moments and their counts", "the step")}


def main():
    base = study.recipe(fast=False)
    corpus = job.load_corpus("shakespeare", base)
    ids, held = study.encoded(corpus, 0, 30_000)
    rows = []
    with kernels(), progress(len(RATES) * len(SEEDS) * 4.5 * base.steps, "resuming") as tick:
        for rate in RATES:
            nats = {}
            for seed in SEEDS:
                recipe = replace(base, rate=rate)
                with tempfile.TemporaryDirectory() as folder:
                    found = study.compare(corpus, recipe, seed, folder, ids, held, tick, WAYS)
                for name, (_, loss, _) in found.items():
                    nats.setdefault(name, []).append(loss)
                for decay in DECAYS:
                    run = study.Run(corpus, recipe, seed, ids)
                    run.go(recipe.steps, schedule=WarmupStableDecay(rate, recipe.warmup, decay))
                    nats.setdefault(f"plateau, decay {decay}", []).append(run.validate(held))
                    tick(recipe.steps)
            rows.append({"rate": rate, "nats": nats})
    for row in rows:
        row["more"] = {name: difference(losses, row["nats"][study.WHOLE])
                       for name, losses in row["nats"].items()}
    best = min(rows, key=lambda row: np.mean(row["nats"][study.WHOLE]))["rate"]
    record = {"rows": rows, "best": best, "seeds": list(SEEDS), "characters": len(held),
              "machine": machine()}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(__file__).with_suffix(".json"), text.encode())
    for row in rows:
        print(row["rate"], row["more"])


def difference(losses, whole):
    """[mean, standard error over the seeds] of what the same seeds cost more."""
    more = np.subtract(losses, whole)
    return [float(more.mean()), float(more.std(ddof=1) / len(more) ** 0.5)]


if __name__ == "__main__":
    main()
