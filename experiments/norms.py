"""Day 21 · No norm, LayerNorm and BatchNorm in eight layers, each at its own best rate, by seeds.

    python experiments/norms.py [--fast] [--json] [--out DIR]

Day 21's window model and 500 steps of AdamW. Held equal: the text, and for a seed the first weights
and the order of the windows. Each kind has a grid of rates with steps of √2 that grows until the
best has two rates on either side, judged by three seeds on one piece of unseen text. Five fresh
seeds are scored on another, and compared seed by seed. For each norm, also: how far one AdamW step
turns the weights of a layer as they are and doubled, which leaves the loss as it was. Two minutes
on one core.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import numpy as np

from days.day21.training import (
    BATCH,
    CHANNELS,
    COMPARED,
    CONTEXT,
    HIDDEN,
    NORMS,
    flag,
    less,
    nats,
    trained,
)
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.data.text import load_or_default
from llm.grad import ops
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW

START = {"no norm": 0.002, "no norm, gain 1.5": 0.002, "LayerNorm": 0.003, "BatchNorm": 0.006}
CHOOSE, REPORT, GROW, STEP = (0, 10, 20), (100, 110, 120, 130, 140), 8, math.sqrt(2)
LAYERS = 8
BEYOND = 2              # rates that a grid has on either side of its best


def turns(kind, factor, seen, size, steps, rate=1e-3):
    """Mean |change|/|w| of one layer's weights over `steps` AdamW steps, that layer × factor."""
    model = DeepWindow(size, CONTEXT, CHANNELS, HIDDEN, LAYERS, np.random.default_rng(0),
                       NORMS[kind])
    w = model.layers[3].w.data
    w *= np.float32(factor)
    optimizer, found = AdamW(model.named_parameters(), decay=0.0), []
    for _, (contexts, targets) in zip(range(steps), draws(seen, CONTEXT, BATCH,
                                                          np.random.default_rng(1))):
        model.zero_grad()
        ops.cross_entropy(model(contexts, **flag(kind)), targets).backward()
        before = w.copy()
        optimizer.step(rate)
        found.append(float(np.linalg.norm(w - before) / np.linalg.norm(before)))
    return statistics.mean(found)


def grown(score, grow):
    """{k: score(k)}, from −1 to 1 and grown until the best has BEYOND on either side."""
    grid = {k: score(k) for k in (-1, 0, 1)}
    for _ in range(grow):
        best = min(grid, key=grid.get)
        missing = [k for k in range(best - BEYOND, best + BEYOND + 1) if k not in grid]
        if not missing:
            break
        grid[missing[0]] = score(missing[0])
    return grid


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    steps, size = (20, 1_000) if fast else (500, 20_000)
    seen = tokenizer.encode(corpus.train[:1_000_000])
    texts = [tokenizer.encode(t) for t in (corpus.validation[:size],
                                           corpus.validation[size:3 * size])]
    rows = {}
    with progress(len(START), "norms") as bar:
        for kind in START:
            def scored(k, seed, piece, kind=kind):
                model, _ = trained(kind, START[kind] * STEP**k, seed, seen, tokenizer.vocab_size,
                                   LAYERS, steps)
                return nats(model, texts[piece])

            def score(k, scored=scored):
                return statistics.mean(scored(k, seed, 0) for seed in CHOOSE[:1 if fast else None])
            grid = grown(score, 0 if fast else GROW)
            best = min(grid, key=grid.get)
            losses = [scored(best, seed, 1) for seed in REPORT]
            rows[kind] = {"rate": START[kind] * STEP**best,
                          "inside": min(grid) < best < max(grid),
                          "grid": [[START[kind] * STEP**k, grid[k]] for k in sorted(grid)],
                          "nats": losses, "mean": statistics.mean(losses),
                          "sd": statistics.stdev(losses)}
            bar(1, f"{kind}: {rows[kind]['mean']:.3f} at {rows[kind]['rate']:.2g}")
    turned = {kind: [turns(kind, factor, seen, tokenizer.vocab_size, 5 if fast else 30)
                     for factor in (1, 2, 4)] for kind in ("LayerNorm", "BatchNorm")}
    return {"kinds": rows, "turns": turned, "seeds": len(REPORT),
            "less": {f"{this} − {that}": less(rows[this]["nats"], rows[that]["nats"])
                     for this, that in COMPARED},
            "steps": steps, "fast": fast, "machine": machine()}


def show(record):
    print_table([["", "best rate", "nats", "± sd"], *(
        [kind, f"{r['rate']:.3g}" + ("" if r["inside"] else ", at the edge"), f"{r['mean']:.3f}",
         f"{r['sd']:.3f}"] for kind, r in record["kinds"].items())],
        f"8 layers, {record['steps']} steps, fresh seeds, second piece of unseen text")
    print_table([["difference", "nats", "± se"], *(
        [name, f"{mean:+.3f}", f"{error:.3f}"] for name, (mean, error) in record["less"].items())])
    print_table([["|change| / |w| of a step, weights ×", "1", "2", "4"], *(
        [kind, *(f"{x:.4f}" for x in xs)] for kind, xs in record["turns"].items())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "norms", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "norms.json", (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"norms.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"norms: {error}")
        sys.exit(2)
