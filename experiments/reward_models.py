"""Day 56 · What misleads a reward model more: a labeller who likes length, or few labels?

    python experiments/reward_models.py          # about two minutes on two quiet cores

The honest labeller with many labels is day 56's own run, with the same seeds. A seed changes the
pairs, the labels, their order and the head. All models are judged by the true utility, on the same
held-out prompts with all their answers. Writes reward_models.json beside this file.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from days.day56 import study
from days.day56.run import LIKES, NS, SAID
from days.day56.start import taught
from days.harness import machine, plain, progress, write_atomically

SEEDS = 3
FEW = 200                              # pairs, each seen many times
USUAL = study.Settings()
KINDS = {"likes": (USUAL, LIKES), "few": (replace(USUAL, pairs=FEW), 0.0)}


def judge(grid, r, noise):
    """What is known about one reward model."""
    every = study.all_pairs(grid, r, noise)
    return {"agreement": study.agreement(*every), "nats": study.nats(*every),
            "slope": study.slope(grid, r) * noise, "correlation": study.correlation(grid, r),
            "calibration": study.calibration(*every, SAID),
            "curve": [[n, noise * reward, u, m, kl] for n, reward, u, m, kl
                      in study.curve(grid, r, NS)]}


def columns(models):
    """[what is known about each seed] -> {what: [by seed]}; of curves {what: [[by seed] by n]}."""
    found = {name: [model[name] for model in models]
             for name in ("agreement", "nats", "slope", "correlation", "last", "calibration")}
    for i, name in enumerate(("n", "reward", "utility", "fillers", "kl")):
        found[name] = [[row[i] for row in rows]
                       for rows in zip(*(model["curve"] for model in models), strict=True)]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"),
                        metavar="FILE", help="where the record goes (reward_models.json beside "
                                             "this file)")
    path = parser.parse_args().out
    first = taught()
    grid = study.make_grid(first.tokenizer, first.config.T, USUAL.prompts,
                           np.random.default_rng([0, 561]))
    gap, _, w = study.all_pairs(grid, grid.u, USUAL.noise)
    found = {"settings": asdict(USUAL), "seeds": SEEDS, "bonus": LIKES, "few_pairs": FEW, "n": NS,
             "best": {"agreement": study.agreement(gap, gap, w), "nats": study.nats(gap, gap, w),
                      "slope": study.slope(grid, grid.u),
                      "curve": [row[2] for row in study.curve(grid, grid.u, NS)]},
             "machine": machine()}
    with progress(len(KINDS) * SEEDS * USUAL.steps, "training") as tick:
        for kind, (settings, likes) in KINDS.items():
            models = []
            for seed in range(SEEDS):
                data = study.labelled(first, settings, seed, likes)
                model, run = study.train(taught, data, settings, seed, tick)
                models.append(judge(grid, study.rewards(model, grid), settings.noise)
                              | {"last": float(np.mean(run.losses[-20:]))})
            found[kind] = columns(models)
    text = json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
