"""Day 30 · Which learning rate suits each kind of position? What the rates of the run rest on.

    python experiments/positions.py [--fast] [--json] [--out DIR]

The models of days/day30/run.py. Each kind of position gets a grid of rates with steps of 1.5,
three seeds a rate, which grows until the best rate is inside. The loss is that of places 16 … 31,
so within the trained length, on the first half of the held-out text. One thread takes about three
minutes.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from days.day29.model import loss_by_place
from days.day30.run import NAMES, SEEDS, T, make
from days.harness import (
    ROOT,
    UsageError,
    kernels,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)
from llm.data.text import load
from llm.tokens.chars import CharTokenizer

RATES = (6.7e-3, 1e-2, 1.5e-2)


def measure(fast):
    corpus = load("shakespeare")
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.train)
    choosing = np.array_split(tokenizer.encode(corpus.validation), 2)[0]
    steps, n, seeds, names = (20, 64, 1, NAMES[:2]) if fast else (300, 1024, SEEDS, NAMES)
    grids = {}
    with kernels():
        for name in names:
            grid, waiting = [], list(RATES[:1] if fast else RATES)
            while waiting:                             # the grid grows while its best is an edge
                rate = waiting.pop(0)
                nats = [loss_by_place(make(name, tokenizer.vocab_size, ids, steps, rate, seed,
                                           lambda *_: None), choosing, T, n)[T // 2:].mean()
                        for seed in range(seeds)]
                grid = sorted([*grid, [rate, [float(x) for x in nats]]])
                say(f"{name}, rate {rate:g}: {np.mean(nats):.3f} nats")
                best = min(grid, key=lambda row: np.mean(row[1]))[0]
                if not waiting and not fast and best in (grid[0][0], grid[-1][0]):
                    further = best * 1.5 if best == grid[-1][0] else best / 1.5
                    waiting.append(float(f"{further:.2g}"))
            grids[name] = grid
    best = {name: min(grid, key=lambda row: np.mean(row[1]))[0] for name, grid in grids.items()}
    return {"steps": steps, "grids": grids, "best": best, "fast": fast, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "positions", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "positions.json", (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["positions", "rate", "nats of each seed"]] + [
        [name, f"{rate:g}", " ".join(f"{x:.3f}" for x in nats)]
        for name, grid in record["grids"].items() for rate, nats in grid])
    say(f"positions.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"positions: {error}")
        sys.exit(2)
