"""Day 50 · Three ways to attention on a grid of shapes, T = 128 … 8,192, forward and backward.

    python experiments/bench_flash.py            # some minutes; writes bench_flash.json
    python experiments/bench_flash.py --json     # prints the result, and nothing else

The ways take turns, so that a slow minute hits all three; each time is a median. A way whose
arrays of B·H·T² numbers would need more than --gigabytes is left out (NumPy keeps about five at a
time). sgemm's speed is measured between the shapes, and the shares of it refer to that.
"""

import argparse
import json
import sys
from pathlib import Path

import numba
import numpy as np

from days.day50.run import limits_of_machine
from days.day50.ways import WAYS, flops, seconds
from days.harness import cpu_name
from llm.kernels.threads import settle

SHAPES = [(1, 2, 64), (1, 4, 32), (1, 2, 128), (8, 3, 32), (1, 1, 64)]            # B, H, D
LENGTHS = [128, 256, 512, 1024, 2048, 4096, 8192]
ARRAYS = {"NumPy": 5, "day 38": 2, "flash": 0}


def measure(shapes, lengths, gigabytes):
    rng, rows = np.random.default_rng(0), []
    for B, H, D in shapes:
        sgemm, bandwidth = limits_of_machine(rng, 1536, 1 << 26)
        for T in lengths:
            if flops(B, T, H, D) > 1e11:                             # minutes, and nothing new
                continue
            names = [way for way in WAYS if ARRAYS[way] * 4e-9 * B * H * T * T <= gigabytes]
            times = seconds(names, B, T, H, D, 7 if T < 2048 else 3)
            rows.append({"B": B, "H": H, "D": D, "T": T, "sgemm": sgemm, "bandwidth": bandwidth,
                         "seconds": times, "GFLOP": flops(B, T, H, D) / 1e9})
            print(line(rows[-1]), file=sys.stderr, flush=True)
    return {"machine": cpu_name(), "threads": numba.get_num_threads(), "rows": rows}


def line(row):
    """One row, for the reader who waits."""
    parts = [f"B {row['B']} H {row['H']} D {row['D']:>3} T {row['T']:>5}"]
    for way, (ahead, back) in row["seconds"].items():
        parts.append(f"{way} {1000 * ahead:.2f} {1000 * back:.2f} ms")
    ahead, back = row["seconds"]["flash"]
    parts.append(f"of sgemm {row['GFLOP'] / ahead / row['sgemm']:.2f} "
                 f"{2.5 * row['GFLOP'] / back / row['sgemm']:.2f}")
    return " · ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result and write no file")
    parser.add_argument("--gigabytes", type=float, default=6, help="most that arrays may take (6)")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="longest text (8192)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    settle()
    lengths = [T for T in LENGTHS if options.longest >= T]
    result = measure(SHAPES, lengths, options.gigabytes)
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        print(text, end="")
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
