"""Day 50 · What does the rounding of m + log l cost the gradients, over many seeds?

    python experiments/kept_log.py [--seeds 12] [--fast] [--json] [--out DIR]

The note's table has one seed a row. Here the tiled algorithm runs in NumPy and float32, on one
head of 64 and 1,024 tokens, with the kept m + log l in float32 and in float64, and as a control
with all of the attention in NumPy. The error is that of days/day50/ways.py. One thread takes about
two minutes.
"""

import argparse
import json
import statistics
from pathlib import Path

from days.day50.ways import errors
from days.harness import (
    ROOT,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.tensors.roofline import Blas

SCALES = (1, 10, 100, 1000)                   # how many times larger the queries are
SIDES = ("tiles", "tiles, exact log", "flash", "NumPy")


def row(large, T, seeds, tick):
    """One scale of the queries: errors of the gradient, and what the rounding makes of them."""
    found = []
    for seed in range(1, seeds + 1):          # seed 0 is the note's table
        both = errors(large, T, 1, 64, seed)
        found.append({side: both[side][1] for side in SIDES})
        tick(1)
    ratios = [e["tiles"] / e["tiles, exact log"] for e in found]
    return {"large": large, "errors": found, "worse": sum(r > 1 for r in ratios),
            "least": min(ratios), "mean": statistics.geometric_mean(ratios), "most": max(ratios),
            "flash": statistics.geometric_mean(e["flash"] / e["NumPy"] for e in found)}


def show(record):
    print_table([["queries, times", "worse with L rounded", "least", "mean", "most",
                  "flash / NumPy"]] + [
        [r["large"], f"{r['worse']} of {len(r['errors'])}",
         *(f"{r[key]:.2f}" for key in ("least", "mean", "most", "flash"))]
        for r in record["rows"]], "error with L in float32 / in float64")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12, help="how many texts a row (12)")
    parser.add_argument("--fast", action="store_true", help="128 tokens, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "kept_log", metavar="DIR")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    prepare(options.out)
    with progress(options.seeds * len(SCALES), "seeds") as tick:
        rows = [row(large, 128 if options.fast else 1024, options.seeds, tick)
                for large in SCALES]
    record = plain({"rows": rows, "blas": Blas().kernel, "fast": options.fast,
                    "machine": machine()})
    write_atomically(options.out / "kept_log.json", (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"kept_log.json is in {nearby(options.out)}")


if __name__ == "__main__":
    main()
