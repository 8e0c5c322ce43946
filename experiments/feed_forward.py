"""Day 33 · The best rate of each one-block model that day 33 compares.

    python experiments/feed_forward.py [--out DIR]

Each variant of days/day33/worth.py is trained at peak rates of a grid of steps of 1.5, which grows
until its best rate is inside, two seeds each. Scores are of the first half of the unseen text;
`run.py` reports fresh seeds on the second. Last, exercise 2: a single matrix in the place of the
two without activation, both with six fresh seeds. One thread takes about four minutes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from days.day33.worth import ONE_MATRIX, VARIANTS, nats
from days.harness import ROOT, kernels, machine, progress, say, write_atomically
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer

RATES, FACTOR, SEEDS, STEPS, WINDOWS = (4e-3, 6e-3, 9e-3), 1.5, (100, 101), 300, 512
FRESH = range(6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "feed_forward", metavar="DIR",
                        help="where feed_forward.json goes (runs/feed_forward)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    corpus, began, rows = load_or_default("shakespeare", say), time.process_time(), []
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    first, second = unseen[:len(unseen) // 2], unseen[len(unseen) // 2:]
    with kernels(), progress((len(VARIANTS) + 3) * 8 * STEPS, "about so many steps") as tick:
        def loss(variant, text, seed, rate):
            return nats(variant, tokenizer.vocab_size, ids, text, STEPS, WINDOWS,
                        np.random.default_rng(seed), tick, rate)[1]

        for variant in (*VARIANTS, ONE_MATRIX):
            def score(rate, variant=variant):
                return statistics.mean(loss(variant, first, seed, rate) for seed in SEEDS)
            grid = {rate: score(rate) for rate in RATES}
            while (best := min(grid, key=grid.get)) in (min(grid), max(grid)):
                new = float(f"{best * FACTOR if best == max(grid) else best / FACTOR:.3g}")
                grid[new] = score(new)
            rows.append([variant[0], best, sorted(map(list, grid.items()))])
            print(variant[0], best, rows[-1][2], flush=True)
        *rows, one = rows
        one.append([loss(ONE_MATRIX, second, seed, one[1]) for seed in FRESH])
        two = [loss(VARIANTS[2], second, seed, VARIANTS[2][4]) for seed in FRESH]
    record = {"corpus": corpus.name, "steps": STEPS, "seeds": SEEDS, "rows": rows,
              "one_matrix": one, "two_matrices": two,
              "cpu_minutes": round((time.process_time() - began) / 60, 1), "machine": machine()}
    write_atomically(out / "feed_forward.json",
                     (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
