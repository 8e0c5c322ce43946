"""Day 34 · One table or two: a tied head against an untied twin, each at its own best rate.

    python experiments/tying.py [--out DIR]

Small GPTs on Shakespeare, with characters and with byte pairs. A tied and an untied model of one
seed see the same windows for the same number of steps, so both have the same FLOPs; the untied one
has V·C parameters more. Each chooses its peak rate on the first half of the held-out text: a grid
of steps of 1.5 that grows until its best rate is inside. Fresh seeds are scored on the second half.
Left out: larger models, longer runs. One thread takes about five minutes.
"""

import argparse
import json
import math
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np

from days.harness import ROOT, kernels, machine, progress, say, write_atomically
from llm.data.text import load_or_default
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig, make_block
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients
from llm.train.schedule import WarmupCosine

B, T, C, L, H, STEPS, WARMUP = 8, 64, 64, 2, 2, 600, 50
RATES = 3e-3, 4.5e-3, 6.75e-3              # the grid grows from these
FACTOR, CHOOSE, REPORT = 1.5, (0, 1), (10, 11, 12, 13)
SCORED = 200                               # windows of each half of the held-out text


def windows(ids, starts):
    """(inputs, targets), each (N, T), of the windows that begin at `starts`."""
    rows = np.asarray(ids, np.int32)[np.asarray(starts)[:, None] + np.arange(T + 1)]
    return rows[:, :-1].copy(), rows[:, 1:].copy()


def one_run(train, scored, V, tied, rate, seed):
    """(nats a token on `scored`, parameters) of one model after STEPS steps."""
    model = GPT(GPTConfig(V=V, T=T, C=C, L=L, H=H, rotary=True, tied=tied),
                np.random.default_rng([seed, 0]), partial(make_block, std=1 / math.sqrt(C)))
    parameters, draws = model.named_parameters(), np.random.default_rng([seed, 1])
    optimizer, schedule = AdamW(parameters, betas=(0.9, 0.99)), WarmupCosine(rate, WARMUP)
    for step in range(1, STEPS + 1):
        model.zero_grad()
        model.loss(*windows(train, draws.integers(0, len(train) - T, B))).backward()
        clip_gradients([p.grad for p in parameters.values()], 1.0)
        optimizer.step(schedule(step, STEPS))
    starts = np.linspace(0, len(scored) - T - 1, SCORED).astype(int)
    with no_grad():
        nats = [float(model.loss(*windows(scored, part)).data)
                for part in np.split(starts, 4)]
    return statistics.mean(nats), model.count_parameters()


def study(train, held_out, V, tied, tick):
    """Choose the rate, then report: a row of the record."""
    first, second = held_out[:len(held_out) // 2], held_out[len(held_out) // 2:]

    def score(rate):
        found = []
        for seed in CHOOSE:
            found.append(one_run(train, first, V, tied, rate, seed)[0])
            tick(1, f"V {V}, {'tied' if tied else 'untied'}, rate {rate:.2g}: {found[-1]:.3f}")
        return statistics.mean(found)

    grid = {rate: score(rate) for rate in RATES}
    while (best := min(grid, key=grid.get)) in (min(grid), max(grid)):
        new = float(f"{best * FACTOR if best == max(grid) else best / FACTOR:.4g}")
        grid[new] = score(new)
    runs = [one_run(train, second, V, tied, best, seed) for seed in REPORT]
    tick(len(REPORT))
    return {"V": V, "tied": tied, "rate": best, "grid": sorted(map(list, grid.items())),
            "nats": [nats for nats, _ in runs], "parameters": runs[0][1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "tying", metavar="DIR",
                        help="where tying.json goes (runs/tying)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    corpus, rows, began = load_or_default("shakespeare", say), [], time.process_time()
    tokenizers = [CharTokenizer.from_text(corpus.text), FastBPE.train(corpus.train, 1024)]
    with kernels(), progress(len(tokenizers) * 2 * 12, "about so many runs") as tick:
        for tokenizer in tokenizers:
            train, held_out = map(tokenizer.encode, (corpus.train, corpus.validation))
            rows += [study(train, held_out, tokenizer.vocab_size, tied, tick)
                     for tied in (True, False)]
    record = {"corpus": corpus.name, "settings": {
                  "B": B, "T": T, "C": C, "L": L, "H": H, "steps": STEPS, "warmup": WARMUP,
                  "factor": FACTOR, "choose": CHOOSE, "report": REPORT, "windows": SCORED},
              "rows": rows, "cpu_minutes": round((time.process_time() - began) / 60, 1),
              "machine": machine()}
    write_atomically(out / "tying.json", (json.dumps(record, indent=1) + "\n").encode())
    for row in rows:
        print(f"V {row['V']:>5} {'tied' if row['tied'] else 'untied':>6}: rate {row['rate']:.4g}, "
              + ", ".join(f"{nats:.3f}" for nats in row["nats"]) + " nats a token")


if __name__ == "__main__":
    main()
