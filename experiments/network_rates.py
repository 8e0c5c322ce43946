"""Day 16 · The network at its best rate for a short and a long run, and its mixture, by seeds.

    python experiments/network_rates.py [--fast] [--json] [--out DIR]

Day 16's network and text. Rates are 1.5 apart and are chosen where day 16 chooses its weights: the
short run's by three seeds, the long run's by one. At the best rate of the long run each of three
seeds is mixed with counting, and so is a lower order of counting; both gains are taken on 20 pieces
of the reported text, for their standard errors. One core takes about five minutes.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from days.day16 import run
from days.day16.comparisons import counted, nats, second_opinion
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
from llm.models.neural_ngram import best_weight, log_probabilities, mix
from llm.tokens.chars import CharTokenizer

SHORT, LONG, SEEDS = (0.53, 0.8, 1.2, 1.8, 2.7), (0.2, 0.3, 0.45), (0, 1, 2)
SHORT_STEPS, PIECES = 572, 20


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text + corpus.text.upper() + corpus.text.lower())
    seen = tokenizer.encode(corpus.train[:300_000] if fast else corpus.train)
    cut, order = (5_000, 5) if fast else (100_000, 7)
    choose, report = (tokenizer.encode(corpus.validation[a:b])
                      for a, b in ((0, cut), (cut, 3 * cut)))
    size, steps = tokenizer.vocab_size, 300 if fast else run.STEPS[False]
    seeds = SEEDS[:1] if fast else SEEDS
    models, _ = counted(seen, range(1, order + 1), size)
    counts = [models[order].log_probabilities(ids)[run.CONTEXT:] for ids in (choose, report)]
    low, share, _ = second_opinion(models, order, choose, report, run.CONTEXT)
    lower = models[low].log_probabilities(report)[run.CONTEXT:]
    second = pieces(mix(lower, counts[1], share) - counts[1])

    with progress(len(LONG) + len(seeds), "long runs") as bar:
        def trained(rate, seed, steps):
            return run.trained(seen, size, rate, fast, seed, steps=steps)[0]

        short = [[rate, [nats(log_probabilities(trained(rate, seed, 20 if fast else SHORT_STEPS),
                                                choose)) for seed in seeds]] for rate in SHORT]
        nets = {}
        for rate in LONG:
            nets[rate] = trained(rate, 0, steps)
            bar(1)
        long = [[rate, nats(log_probabilities(net, choose))] for rate, net in nets.items()]
        best = min(long, key=lambda row: row[1])[0]
        rows = []
        for seed in seeds:
            net = nets[best] if seed == 0 else trained(best, seed, steps)
            a, c = log_probabilities(net, choose), log_probabilities(net, report)
            weight = best_weight(a, counts[0])
            gains = pieces(mix(c, counts[1], weight) - counts[1])
            rows.append({"seed": seed, "nats": nats(c), "weight": weight, "gain": mean(gains),
                         "ahead": mean(gains - second)})
            bar(1)
    return {"short": short, "short_steps": SHORT_STEPS, "long": long, "best": best, "steps": steps,
            "runs": rows, "counted": nats(counts[1]), "second": [low, share, *mean(second)],
            "pieces": PIECES, "fast": fast, "machine": machine()}


def pieces(x):
    """(PIECES,) means of equal stretches."""
    return np.array([part.mean() for part in np.array_split(x, PIECES)])


def mean(x):
    """[mean, its standard error]."""
    return [float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x))]


def show(record):
    print_table([["rate", "nats of each seed"], *(
        [rate, " ".join(f"{x:.3f}" for x in xs)] for rate, xs in record["short"])],
        f"{record['short_steps']} steps, where rates are chosen")
    print_table([["rate", "nats"], *([rate, f"{x:.3f}"] for rate, x in record["long"])],
                f"{record['steps']:,} steps, where rates are chosen")
    print_table([["seed", "nats", "weight", "gain of mixing", "ahead of mixing two counts"], *(
        [r["seed"], f"{r['nats']:.3f}", f"{r['weight']:.3f}",
         *(f"{a:.4f} ± {b:.4f}" for a, b in (r["gain"], r["ahead"]))] for r in record["runs"])],
        f"rate {record['best']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "network_rates", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "network_rates.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"network_rates.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"network_rates: {error}")
        sys.exit(2)
