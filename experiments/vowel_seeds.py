"""Day 13 · The vowel network from five seeds: its loss, and where the letters end.

    python experiments/vowel_seeds.py       # about 2 minutes; writes vowel_seeds.json
"""

import argparse
import json
from pathlib import Path

import numpy as np

from days.day13 import task
from days.harness import machine, plain, progress, write_atomically
from llm.data.text import load
from llm.models import vowels

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2, 3, 4))
    parser.add_argument("--steps", type=int, default=task.STEPS)
    parser.add_argument("--out", type=Path, default=HERE / "vowel_seeds.json")
    options = parser.parse_args()
    seen, unseen = task.data(load("shakespeare"))
    runs = []
    with progress(options.steps * len(options.seeds), "training") as step:
        for seed in options.seeds:
            rng = np.random.default_rng(seed)
            theta, before, after, apart = task.trained(rng, seen, unseen, options.steps, step)
            rows = rng.integers(len(seen[1]), size=options.steps * task.BATCH)
            few = [task.counted((seen[0][rows], seen[1][rows]), unseen, k)[0] for k in range(4)]
            among, across = vowels.distances(theta, task.SIZE)
            runs.append({"seed": seed, "untrained": before[0], "nats": after[0], "right": after[1],
                         "counted on as many": few, "apart before": apart, "among": among,
                         "across": across, "closer sets": task.closer_sets(theta),
                         "rank correlation": task.like_distance(theta, task.vowel_after(seen))})
    record = {"steps": options.steps, "batch": task.BATCH, "runs": runs, "machine": machine()}
    write_atomically(options.out, (json.dumps(plain(record), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
