"""Day 22 · The GRU, the plain recurrent network and day 16's network, each at its own best rate.

    python experiments/recurrence.py [--fast] [--out DIR]

All train for the same processor time on one thread, about six seconds: STEPS was set from a first
timing. Only the control, a plain network again, gets the GRU's number of steps. Rates form a grid
with steps of 1.5 that grows until the best is not at its edge, chosen with seed 0 on the first half
of the held-out text. Three fresh seeds at that rate are scored on the second half. One thread takes
about five minutes (OPENBLAS_NUM_THREADS=1).
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import numpy as np

from days.harness import ROOT, machine, prepare, print_table, progress, write_atomically
from llm.data.text import load
from llm.layers.recurrent import GRU, RNN
from llm.models import gru, neural_ngram
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.recurrent import streams, train
from llm.train.schedule import WarmupCosine

CHANNELS, BATCH, LENGTH = 128, 32, 64
CONTROL = "tanh, the GRU's steps"
FIRST_RATE = {"GRU, keep 0": .006, "GRU, keep 1": .006, "GRU, keep 3": .006, "tanh": .003,
              "day 16's network": .75, CONTROL: .0152}
STEPS = {"GRU": 200, CONTROL: 200, "tanh": 480, "day 16": 6000}
SEEDS = (1, 2, 3)


def trained(kind, rate, seed, ids, size, fast=False):
    """(model, its log_probabilities function, CPU seconds) after STEPS of training."""
    rng, began = np.random.default_rng(seed), time.process_time()
    steps = next(n for name, n in STEPS.items() if kind.startswith(name))
    steps = steps // 20 if fast else steps
    schedule = WarmupCosine(rate, max(1, steps // 10))
    if kind.startswith("day 16"):
        model = neural_ngram.NeuralNGram(size, 8, 16, 256, rng)
        neural_ngram.train(model, neural_ngram.draws(ids, 8, 64, rng), schedule, steps=steps)
        read = functools.partial(neural_ngram.log_probabilities, model)
    else:
        layer = RNN if kind.startswith("tanh") else functools.partial(GRU, keep=float(kind[-1]))
        model = gru.RecurrentLM(size, CHANNELS, 1, rng, layer)
        offset = int(rng.integers(len(ids) // 2))                # each seed begins elsewhere
        train(model, streams(ids[offset:], BATCH, LENGTH),
              AdamW(model.named_parameters(), decay=0.0), schedule, steps=steps)
        read = functools.partial(gru.log_probabilities, model)
    return model, read, time.process_time() - began


def best_rate(first, score):
    """(best, [(rate, nats)]): neighbours a factor of 1.5 apart, on both sides of the best."""
    grid = {k: score(first * 1.5**k) for k in (-1, 0, 1)}
    while (best := min(grid, key=grid.get)) in (min(grid), max(grid)) and len(grid) < 10:
        k = best - 1 if best == min(grid) else best + 1
        grid[k] = score(first * 1.5**k)
    return first * 1.5**best, [(first * 1.5**k, grid[k]) for k in sorted(grid)]


def measure(fast):
    corpus = load("shakespeare")
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, half = tokenizer.encode(corpus.train), len(corpus.validation) // 2
    piece = 500 if fast else 20_000
    choose = tokenizer.encode(corpus.validation[:piece])
    report = tokenizer.encode(corpus.validation[half:half + 2 * piece])
    record = {"steps": STEPS, "channels": CHANNELS, "batch": BATCH, "length": LENGTH, "models": {}}
    began = time.process_time()
    with progress(len(FIRST_RATE), "models") as bar:
        for kind, first in FIRST_RATE.items():
            def score(rate, kind=kind):
                _, read, _ = trained(kind, rate, 0, ids, tokenizer.vocab_size, fast)
                return -float(read(choose).mean())
            rate, grid = best_rate(first, score)
            runs = [trained(kind, rate, seed, ids, tokenizer.vocab_size, fast) for seed in SEEDS]
            nats = [-float(read(report).mean()) for _, read, _ in runs]
            found = {"rate": rate, "grid": grid, "nats": nats, "mean": statistics.mean(nats),
                     "lowest": min(nats), "highest": max(nats),
                     "cpu_seconds": statistics.median(s for *_, s in runs)}
            if kind == CONTROL:
                record["equal_steps"] = found
            else:
                record["models"][kind] = found
            bar(1, f"{kind} {rate:.3g} {nats[0]:.3f}")
    return {**record, "cpu_minutes": (time.process_time() - began) / 60, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a twentieth of the steps")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "recurrence", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = measure(options.fast)
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(options.out / "recurrence.json", text.encode())
    print_table([["model", "rate", "nats", "lowest", "highest"], *(
        [kind, f"{m['rate']:.3g}", *(f"{m[k]:.3f}" for k in ("mean", "lowest", "highest"))]
        for kind, m in [*record["models"].items(), (CONTROL, record["equal_steps"])])])


if __name__ == "__main__":
    main()
