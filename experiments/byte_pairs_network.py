"""Day 25 · Day 16's network over byte pairs and over characters: nats a character at equal FLOPs.

    python experiments/byte_pairs_network.py [--fast] [--json] [--out DIR]

Three networks with the same channels and hidden units: over characters with a window of 8, over
byte pairs (512 ids) with a window of 8, and over characters with a window as long as those 8 byte
pairs are on average. Held equal: the text, the batch, and the FLOPs of all products, so that the
network with cheaper steps makes more of them. Plain steps whose rate falls to 0; each network has
its own rate, from a grid with steps of 1.5 that grows until the best is inside, judged by one seed
on one piece of unseen text. Three fresh seeds are scored on another piece. The price of a token is
spread over the characters that it spells. One core takes about three minutes.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

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
from llm.models.neural_ngram import NeuralNGram, draws, log_probabilities, train
from llm.tokens.chars import CharTokenizer
from llm.tokens.fast_bpe import FastBPE

C, H, B, VOCABULARY, STEP, GROW = 16, 256, 64, 512, 1.5, 6
CHOOSE, REPORT = 0, (1, 2, 3)


class Network:
    """One way to cut the text, and how many steps the budget allows."""

    def __init__(self, name, tokenizer, window, texts, budget):
        self.name, self.window, self.V = name, window, tokenizer.vocab_size
        self.seen, *rest = (np.asarray(tokenizer.encode(text)) for text in texts)
        self.pieces = [(ids, len(tokenizer.decode(ids[window:]))) for ids in rest]
        self.characters = len(texts[0]) / len(self.seen)               # a token
        self.flops = 3 * 2 * H * (window * C + self.V)                 # of one window, both ways
        self.steps = max(1, round(budget / (B * self.flops)))

    def nats(self, rate, seed, piece):
        """Train once; nats a character on one piece of unseen text."""
        model = NeuralNGram(self.V, self.window, C, H, np.random.default_rng(seed))
        train(model, draws(self.seen, self.window, B, np.random.default_rng(seed + 100)),
              lambda step, total: rate * (1 - step / total), steps=self.steps)
        ids, characters = self.pieces[piece]
        return -float(log_probabilities(model, ids).sum()) / characters


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    size = 2_000 if fast else 50_000
    texts = (corpus.train[:50_000] if fast else corpus.train, corpus.validation[:size],
             corpus.validation[size:3 * size])
    characters = CharTokenizer.from_text(corpus.text)
    pairs = FastBPE.train(texts[0], VOCABULARY)
    budget = (100 if fast else 6_000) * B * 3 * 2 * H * (8 * C + characters.vocab_size)
    over_pairs = Network("byte pairs", pairs, 8, texts, budget)
    long = round(8 * over_pairs.characters)
    networks = [Network("characters", characters, 8, texts, budget), over_pairs,
                Network("characters, long window", characters, long, texts, budget)]
    rows = []
    with progress(len(networks), "networks") as bar:
        for network in networks:
            grid = {k: network.nats(0.8 * STEP**k, CHOOSE, 0) for k in (-1, 0, 1)}
            for _ in range(0 if fast else GROW):
                best = min(grid, key=grid.get)
                if min(grid) < best < max(grid):
                    break
                k = best + (1 if best == max(grid) else -1)
                grid[k] = network.nats(0.8 * STEP**k, CHOOSE, 0)
            best = min(grid, key=grid.get)
            losses = [network.nats(0.8 * STEP**best, seed, 1) for seed in REPORT]
            rows.append({"network": network.name, "V": network.V, "window": network.window,
                         "characters": network.characters, "steps": network.steps,
                         "parameters": network.V * C + (network.window * C + 1) * H
                         + (H + 1) * network.V,
                         "flops": network.flops, "rate": 0.8 * STEP**best,
                         "inside": min(grid) < best < max(grid),
                         "grid": [[0.8 * STEP**k, grid[k]] for k in sorted(grid)],
                         "nats": losses, "mean": statistics.mean(losses),
                         "sd": statistics.stdev(losses)})
            bar(1, f"{network.name}: {rows[-1]['mean']:.3f}")
    return {"networks": rows, "gflops": budget / 1e9, "seeds": len(REPORT), "fast": fast,
            "machine": machine()}


def show(record):
    print_table([["network", "V", "window", "steps", "best rate", "nats a character", "± sd"], *(
        [r["network"], r["V"], r["window"], f"{r['steps']:,}",
         f"{r['rate']:.3g}" + ("" if r["inside"] else ", at the edge"), f"{r['mean']:.3f}",
         f"{r['sd']:.3f}"] for r in record["networks"])],
        f"{record['gflops']:.0f} GFLOP each, {record['seeds']} fresh seeds")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "byte_pairs", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "byte_pairs_network.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"byte_pairs_network.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"byte_pairs_network: {error}")
        sys.exit(2)
