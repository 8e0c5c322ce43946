"""Day 33 · The best rate of each one-block model that day 33 compares.

    python experiments/feed_forward.py [--out DIR]

Each variant of days/day33/worth.py is trained at peak rates of a grid of steps of 1.5, which grows
until its best rate is inside, two seeds each. Scores are of the first half of the unseen text;
`run.py` reports fresh seeds on the second. One thread takes about three minutes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from days.day33.worth import VARIANTS, nats
from days.harness import ROOT, kernels, machine, progress, say, write_atomically
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer

RATES, FACTOR, SEEDS, STEPS, WINDOWS = (4e-3, 6e-3, 9e-3), 1.5, (100, 101), 300, 512


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "feed_forward", metavar="DIR",
                        help="where feed_forward.json goes (runs/feed_forward)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    corpus, began, rows = load_or_default("shakespeare", say), time.process_time(), []
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    first = unseen[:len(unseen) // 2]
    with kernels(), progress(len(VARIANTS) * 8 * STEPS, "about so many steps") as tick:
        for variant in VARIANTS:
            def score(rate, variant=variant):
                return statistics.mean(nats(variant, tokenizer.vocab_size, ids, first, STEPS,
                                            WINDOWS, np.random.default_rng(seed), tick, rate)[1]
                                       for seed in SEEDS)
            grid = {rate: score(rate) for rate in RATES}
            while (best := min(grid, key=grid.get)) in (min(grid), max(grid)):
                new = float(f"{best * FACTOR if best == max(grid) else best / FACTOR:.3g}")
                grid[new] = score(new)
            rows.append([variant[0], best, sorted(map(list, grid.items()))])
            print(variant[0], best, rows[-1][2], flush=True)
    record = {"corpus": corpus.name, "steps": STEPS, "seeds": SEEDS, "rows": rows,
              "cpu_minutes": round((time.process_time() - began) / 60, 1), "machine": machine()}
    write_atomically(out / "feed_forward.json",
                     (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
