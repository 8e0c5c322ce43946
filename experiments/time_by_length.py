"""Day 33 · How long does a step take as texts grow: a GRU beside attention, at equal tokens?

    python experiments/time_by_length.py [--fast] [--json] [--out DIR]

One layer each, of the same width, forward and backward on 4,096 tokens: many short texts or few
long ones. The GRU is day 22's and walks along the text; attention is day 29's, with four heads.
Its products with weights cost the same for every length, and its scores grow with T. In NumPy, and
on kernels: day 22's, and day 38's where they are there. Medians, all in turns; a quarter of a
minute on two quiet cores (OPENBLAS_THREAD_TIMEOUT=10, day 38). Left out: writing text, where a GRU
needs no past and attention a cache (day 42).
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

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
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
from llm.layers.recurrent import GRU
from llm.train.fast_gru import fast as gru_kernels

CHANNELS, HEADS, TOKENS = 128, 4, 4096
LENGTHS = 16, 64, 256, 1024
SIDES = "GRU, NumPy", "attention, NumPy", "GRU, kernels", "attention, kernels"


def step(layer, B, T, rng):
    """A call that makes the layer's forward and backward on (B, T, CHANNELS)."""
    x = rng.standard_normal((B, T, CHANNELS)).astype(np.float32)
    dout = rng.standard_normal((B, T, CHANNELS)).astype(np.float32)
    state = (np.zeros((B, CHANNELS), np.float32),) if isinstance(layer, GRU) else ()

    def call():
        layer.zero_grad()
        out = layer(Tensor(x, True), *map(Tensor, state))
        (out * Tensor(dout)).sum().backward()

    return call


def measure(fast, seed=0):
    """{"rows": [[T, B, milliseconds of each of SIDES], …]}."""
    rng = np.random.default_rng(seed)
    tokens, lengths, repeats = (256, (4, 16), 2) if fast else (TOKENS, LENGTHS, 9)
    layers = GRU(CHANNELS, CHANNELS, rng), MultiHeadAttention(CHANNELS, HEADS, rng)
    rows = []
    for T in lengths:
        calls = [step(layer, tokens // T, T, rng) for layer in layers]
        spent = {side: [] for side in SIDES}
        for _ in range(repeats + 1):                           # the first round only warms up
            for side in SIDES:
                attends, fused = side.startswith("attention"), side.endswith("kernels")
                call = calls[attends]
                with (kernels if attends else gru_kernels)() if fused else contextlib.nullcontext():
                    began = time.perf_counter()
                    call()
                    spent[side].append(1000 * (time.perf_counter() - began))
        rows.append([T, tokens // T, *(statistics.median(times[1:]) for times in spent.values())])
    return {"tokens": tokens, "channels": CHANNELS, "heads": HEADS, "sides": SIDES, "rows": rows,
            "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few tokens, a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "time_by_length", metavar="DIR")
    options = parser.parse_args()
    path = options.out / ("time_by_length-fast.json" if options.fast else "time_by_length.json")
    try:
        prepare(options.out)
        record = plain(measure(options.fast))
        write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    except (UsageError, OSError) as error:
        say(f"time_by_length: {error}")
        sys.exit(2)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
        return
    print_table([["T", "texts", *(f"{side}, ms" for side in SIDES)]] + [
        [T, B, *(f"{ms:.1f}" for ms in times)] for T, B, *times in record["rows"]])
    say(f"{path.name} is in {nearby(options.out)}; {record['machine']}")


if __name__ == "__main__":
    main()
