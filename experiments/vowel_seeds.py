"""Day 13 · The vowel network from five seeds: its loss, and where the letters end; and its rate.

    python experiments/vowel_seeds.py               # about 2 minutes; writes vowel_seeds.json
    python experiments/vowel_seeds.py --rates-only  # seconds; the rest of the file stays

The rates lie a factor of 1.5 apart. They are judged on unseen text that no other number of the day
uses, and trained with whole batches as arrays: the same steps as the tape's, in seconds.
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
RATES, RATE_SEEDS = (0.3, 0.44, 0.67, 1.0, 1.5, 2.25), (0, 1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2, 3, 4))
    parser.add_argument("--steps", type=int, default=task.STEPS)
    parser.add_argument("--rates-only", action="store_true", help="leave the runs as they are")
    parser.add_argument("--out", type=Path, default=HERE / "vowel_seeds.json")
    options = parser.parse_args()
    corpus = load("shakespeare")
    seen, unseen = task.data(corpus)
    record = (json.loads(options.out.read_text()) if options.rates_only else
              {"steps": options.steps, "batch": task.BATCH, "runs": seeds(options, seen, unseen)})
    record["rates"] = rates(seen, corpus, options.steps)
    if not options.rates_only:
        record["machine"] = machine()
    write_atomically(options.out, (json.dumps(plain(record), indent=1) + "\n").encode())


def seeds(options, seen, unseen):
    """One record for each seed, trained by the scalar tape."""
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
    return runs


def rates(seen, corpus, steps):
    """Rows: rate, nats of each seed on text after that of the run."""
    contexts, after = vowels.examples(corpus.validation[:task.SEEN], task.CONTEXT)
    other = contexts[task.UNSEEN:2 * task.UNSEEN], after[task.UNSEEN:2 * task.UNSEEN]
    return [[rate, [by_arrays(seen, other, steps, rate, seed) for seed in RATE_SEEDS]]
            for rate in RATES]


def by_arrays(seen, unseen, steps, rate, seed):
    """The nats on `unseen` after the training of `task.trained`, with arrays in place of Values."""
    rng, size, hidden, batch = np.random.default_rng(seed), task.SIZE, task.HIDDEN, task.BATCH
    theta = np.array([p.data for p in vowels.initial(rng, task.CONTEXT, size, hidden)])
    table = theta[:len(vowels.LETTERS) * size].reshape(-1, size)             # views: (27, 2)
    units, last = theta[table.size:-1].reshape(hidden, -1), theta[-1:]       # (8, 6 + 2), (1)
    w, b, v = units[:, :-2], units[:, -2], units[:, -1]

    def forward(ids):
        x = table[ids].reshape(len(ids), -1)                                 # (N, 6)
        h = np.tanh(x @ w.T + b)                                             # (N, 8)
        return x, h, h @ v + last                                            # logits (N)

    for step in range(steps):
        rows = rng.integers(len(seen[1]), size=batch)
        x, h, z = forward(seen[0][rows])
        dz = (1 / (1 + np.exp(-z)) - seen[1][rows]) / batch                  # day 09: p − y
        du = np.outer(dz, v) * (1 - h * h)
        dx, now = du @ w, rate * (1 - step / steps)
        dtable = np.zeros_like(table)
        np.add.at(dtable, seen[0][rows].ravel(), dx.reshape(-1, size))
        dw, db, dv = du.T @ x, du.sum(0), h.T @ dz
        for p, g in ((table, dtable), (w, dw), (b, db), (v, dv), (last, dz.sum())):
            p -= now * g
    z = forward(unseen[0])[2]
    return float(np.logaddexp(0, np.where(unseen[1] == 1, -z, z)).mean())


if __name__ == "__main__":
    main()
