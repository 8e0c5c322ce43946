"""Day 32 · Which towers of 24 layers learn, each at its own rate, over seeds?

    python experiments/residual.py [--fast] [--json] [--out DIR]

The towers of days/day32/run.py. Each gets its own learning rate: a grid with steps of 1.5, which
grows until the best rate is inside; three seeds a rate for the towers with a stream, one for those
without. Chosen on the first half of the held-out text; at the best rate three seeds are reported
on the second half. Then post-norm and pre-norm train four times as long at four rates, one seed
each. Last come towers between these kinds: what the branches write is divided by other numbers,
the rate chosen with one seed. One thread takes about ten minutes.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from days.day32.probes import learn, nats, paths, windows
from days.day32.run import TOWERS, T
from days.day32.tower import Tower
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

RATES = (1e-3, 1.5e-3, 2.2e-3, 3.3e-3, 5e-3, 7.5e-3, 1.1e-2)
MOST = 10                                  # rates of a grid
LONGER = (1e-3, 2.2e-3, 5e-3, 1.1e-2)      # for four times as many steps
DIVIDED = (("post-norm", 1.5), ("post-norm", 2), ("post-norm", 3),      # scaled divides by √24
           ("pre-norm", 0.25), ("pre-norm", 0.0625))                    # larger branches


class Study:
    """The text in three parts, and the losses of each tower, rate and seed."""

    def __init__(self, fast):
        corpus = load("shakespeare")
        tokenizer = CharTokenizer.from_text(corpus.text)
        self.V, self.ids = tokenizer.vocab_size, tokenizer.encode(corpus.train)
        self.choosing, self.report = np.array_split(tokenizer.encode(corpus.validation), 2)
        self.steps = 3 if fast else 100

    def losses(self, tower, rate, seed, longer=1, divide=None):
        """(nats on the text to choose on, on the text to report)."""
        model = self.tower(tower, seed, divide)
        with np.errstate(over="ignore", invalid="ignore"):       # plain layers can explode
            chosen = learn(model, self.ids, self.choosing, T, longer * self.steps, rate, seed,
                           lambda *_: None)
            return chosen, nats(model, self.report, T, seed)

    def tower(self, tower, seed, divide=None):
        kind, std = TOWERS[tower]
        return Tower(self.V, kind, np.random.default_rng(seed), std, divide=divide)

    def row(self, tower, seeds, fast, divide=None):
        """A tower at its best rate; the grid grows while its best is an edge. `seeds` choose."""
        waiting, found = list(RATES[3:4] if fast else RATES), {}
        while waiting:
            rate = waiting.pop(0)
            found[rate] = [self.losses(tower, rate, seed, 1, divide) for seed in range(seeds)]
            mean = {r: float(np.mean([chosen for chosen, _ in x])) for r, x in found.items()}
            say(f"{tower}, rate {rate:g}: {mean[rate]:.3f} nats")
            best = min(mean, key=mean.get)
            if not waiting and not fast and len(found) < MOST:
                if best == max(mean):
                    waiting.append(float(f"{1.5 * best:.2g}"))
                elif best == min(mean):
                    waiting.append(float(f"{best / 1.5:.2g}"))
        again = [self.losses(tower, best, seed, 1, divide)
                 for seed in range(seeds, 1 if fast else 3)]
        return {"rate": best, "inside": min(mean) < best < max(mean),
                "grid": sorted([r, m] for r, m in mean.items()),
                "nats": [told for _, told in found[best] + again]}

    def path(self, tower, divide, starts):
        """Branches on a path before training, the mean over random starts."""
        shares = [paths(self.tower(tower, seed, divide),
                        *windows(self.ids, 2, T, np.random.default_rng(seed)))[0]
                  for seed in range(starts)]
        return float(np.mean(shares, axis=0) @ np.arange(len(shares[0])))


def measure(fast):
    study = Study(fast)
    towers = ("post-norm", "plain") if fast else tuple(TOWERS)
    with kernels():
        rows = {tower: study.row(tower, 3 if "-" in tower and not fast else 1, fast)
                for tower in towers}
        longer = {tower: [[r, study.losses(tower, r, 0, 4)[1]] for r in LONGER[:1 if fast else 4]]
                  for tower in ("post-norm", "pre-norm")}
        divided = divided_rows(study, fast)
    return {"steps": study.steps, "rows": rows, "longer": longer, "divided": divided,
            "fast": fast, "machine": machine()}


def divided_rows(study, fast):
    return [{"tower": tower, "divide": divide, "path": study.path(tower, divide, 2 if fast else 24),
             **study.row(tower, 1, fast, divide)}
            for tower, divide in (DIVIDED[:1] if fast else DIVIDED)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "residual", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "residual.json", (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["tower", "rate", "nats of each seed"]] + [
        [tower, f"{row['rate']:g}", " ".join(f"{x:.3f}" for x in row["nats"])]
        for tower, row in record["rows"].items()], f"{record['steps']} steps")
    print("four times as long:", record["longer"])
    print_table([["what branches write divided by", "branches on a path", "rate", "nats"]] + [
        [f"{row['tower']}, {row['divide']}", f"{row['path']:.1f}", f"{row['rate']:g}",
         " ".join(f"{x:.3f}" for x in row["nats"])] for row in record["divided"]])
    say(f"residual.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"residual: {error}")
        sys.exit(2)
