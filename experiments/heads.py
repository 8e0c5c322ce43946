"""Day 29 · How many heads, each number at its own rate: losses, removing, freezing, over seeds.

    python experiments/heads.py [--fast] [--json] [--out DIR]

The model of days/day29/run.py with 1, 4, 16 and 64 heads. Each gets its own learning rate: a grid
with steps of 1.5, three seeds a rate, which grows until the best rate is inside; chosen on the
first half of the held-out text. All numbers reported are from the second half. Besides: 1 and 4
heads trained four times as long, and more seeds of 4 heads, to see which habits of heads are
habits of one seed. One thread takes about eight minutes.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from days.day29.model import AttentionLM, Places, loss_by_place, train, windows
from days.day29.opened import Opened
from days.day29.run import B, C, T, first, rows_of
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

RATES = (4.4e-3, 6.7e-3, 1e-2, 1.5e-2)


class Study:
    """The text in three parts, and a model for each number of heads, rate and seed."""

    def __init__(self, fast):
        corpus = load("shakespeare")
        tokenizer = CharTokenizer.from_text(corpus.text)
        self.V, self.space = tokenizer.vocab_size, tokenizer.encode(" ")[0]
        self.ids = tokenizer.encode(corpus.train)
        self.choosing, self.report = np.array_split(tokenizer.encode(corpus.validation), 2)
        self.steps, self.n = (30, 64) if fast else (300, 1024)

    def model(self, H, rate, seed, longer=1):
        rng = np.random.default_rng(seed)
        model = AttentionLM(self.V, C, H, 1, rng, Places(T, C, rng))
        return train(model, self.ids, longer * self.steps, B, T, rng, lambda *_: None, rate=rate)

    def nats(self, model, text):
        return float(loss_by_place(model, text, T, self.n).mean())

    def changes(self, model, H):
        """Rises of the loss: [one head removed, mean; their sum; all removed; all frozen]."""
        layer, pattern = self.opened(model)
        single, every = [layer.removed([h]) for h in range(H)], list(range(H))
        return [sum(single) / H, sum(single), layer.removed(every), layer.frozen(every, pattern)]

    def heads(self, model):
        """A row for each head, as in days/day29/run.py: habits, removed, averaged, frozen."""
        layer, pattern = self.opened(model)
        return rows_of(layer, self.texts()[0] == self.space, pattern)

    def texts(self):
        return windows(self.report, self.n // 2, T, np.random.default_rng(9))

    def opened(self, model):
        seen = windows(self.ids, self.n // 2, T, np.random.default_rng(9))
        return Opened(model, *self.texts()), Opened(model, *seen).weights.mean(axis=0)


def measure(fast):
    study, rows = Study(fast), []
    counts, seeds, more = ((1, 4), 1, 2) if fast else ((1, 4, 16, 64), 3, 20)
    with kernels():
        for H in counts:
            grid, waiting, kept = [], list(RATES[1:3] if fast else RATES), {}
            while waiting:                             # the grid grows while its best is an edge
                rate = waiting.pop(0)
                kept[rate] = [study.model(H, rate, seed) for seed in range(seeds)]
                nats = [study.nats(model, study.choosing) for model in kept[rate]]
                grid = sorted([*grid, [rate, float(np.mean(nats))]])
                say(f"{H} heads, rate {rate:g}: {np.mean(nats):.3f} nats")
                if waiting or fast:
                    continue
                best = min(grid, key=lambda row: row[1])[0]
                if best == grid[-1][0]:
                    waiting.append(float(f"{1.5 * best:.2g}"))
                elif best == grid[0][0]:
                    waiting.append(float(f"{best / 1.5:.2g}"))
            best = min(grid, key=lambda row: row[1])[0]
            rows.append({"H": H, "rate": best, "grid": grid,
                         "nats": [study.nats(model, study.report) for model in kept[best]],
                         "changes": [study.changes(model, H) for model in kept[best]]})
        rate = {row["H"]: row["rate"] for row in rows}
        longer = {H: [study.nats(study.model(H, rate[H], seed, 4), study.report)
                      for seed in range(seeds)] for H in (1, 4)}
        heads = [study.heads(study.model(4, rate[4], seed)) for seed in range(more)]
    return {"steps": study.steps, "rows": rows, "longer": longer, "heads": heads,
            "agree": agree(heads), "fast": fast, "machine": machine()}


def agree(heads):
    """Of all seeds: how often the head that looks back most costs most to freeze, and the head
    most on itself least. Chance says one in four."""
    return [sum(first(rows, 1) == first(rows, 6) for rows in heads),
            sum(first(rows, 0) == first(rows, 6, -1) for rows in heads)]


def show(record):
    print_table([["heads", "rate", "nats", "remove one", "summed", "all", "freeze all"]] + [
        [row["H"], row["rate"], " ".join(f"{x:.3f}" for x in row["nats"]),
         *(f"{x:.3f}" for x in np.mean(row["changes"], axis=0))] for row in record["rows"]],
        f"{record['steps']} steps")
    print("four times as long:", {H: np.round(x, 3) for H, x in record["longer"].items()})
    print(f"of {len(record['heads'])} seeds: back most, dearest to freeze {record['agree'][0]}; "
          f"most on itself, cheapest {record['agree'][1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "heads", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "heads.json", (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"heads.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"heads: {error}")
        sys.exit(2)
