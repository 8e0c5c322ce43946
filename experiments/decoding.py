"""Day 41 · At equal surprisal, does it matter which knob made the text less surprising?

    python experiments/decoding.py [--pieces 32] [--seeds 3] [--fast] [--json] [--out DIR]

The reader's GPT (day 35) continues held-out text with one knob at a time: temperature, top-k,
top-p, min-p, typical, each over seven settings from nearly greedy to nearly none. Each setting is
one point: how surprising its text is (nats a token, under the unfiltered model), how many of its
words the training text has, and distinct-4. A stricter setting makes text less surprising and its
words more often real, so settings of different knobs can only be compared at equal surprisal:
each knob's points are joined by straight lines and read off at 2.1, 2.5 and 3 nats. Typical is left
out there: made stricter it turns back, so that one level may meet it twice. Every seed has prompts
of its own; the spread is that of the seeds.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from days.day35.trained import trained
from days.day41.methods import KNOBS, knob
from days.day41.writing import cut_pieces, distinct, surprisals, words, write
from days.harness import console, figure, kernels, machine, plain, progress, save, write_atomically

LEVELS = (2.1, 2.5, 3.0)     # nats a token at which the knobs are compared


def measure(pieces, seeds, fast):
    """{rows: [knob, setting, seed, nats, real words, distinct-4], at: …}"""
    reader = trained(fast)
    T, T0 = reader.config.T, reader.config.T // 8
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    every = cut_pieces(ids[len(ids) // 2:], pieces * seeds, T)[:, :T0]
    known = set(words(reader.corpus.train.lower()))
    rows, settings = [], [(name, x) for name, xs in KNOBS.items() for x in xs]
    total = len(settings) * seeds * pieces * (T - T0)
    with kernels(), progress(total, "writing") as advance:
        for seed in range(seeds):
            for name, x in settings:
                rngs = np.random.default_rng([seed, len(rows)]).spawn(pieces)
                found = write(reader.model, every[seed::seeds], [knob(name, x)(r) for r in rngs],
                              T - T0, advance)
                said = [w for row in found
                        for w in words(reader.tokenizer.decode(row[T0:]).lower())]
                rows.append([name, x, seed, surprisals(reader.model, found, T0).mean(),
                             np.mean([w in known for w in said]),
                             np.mean([distinct(row[T0:], 4) for row in found])])
    return {"rows": rows, "at": read_off(rows, seeds), "pieces": pieces, "seeds": seeds,
            "length": T - T0, "machine": machine()}


def read_off(rows, seeds):
    """{level: {knob: [real words by seed]}}, between the two nearest settings; None outside."""
    at = {}
    for level in LEVELS:
        at[str(level)] = {}
        for name in [name for name in KNOBS if name != "typical"]:
            values = []
            for seed in range(seeds):
                points = sorted((r[3], r[4]) for r in rows if r[0] == name and r[2] == seed)
                nats, real = zip(*points)
                inside = nats[0] <= level <= nats[-1]
                values.append(float(np.interp(level, nats, real)) if inside else None)
            at[str(level)][name] = values
    return at


def draw(found, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(7.2, 4.4))
    colors = dict(zip(KNOBS, ("#222222", "#c8553d", "#e9a03b", "#2a9d8f", "#6d597a")))
    for name, color in colors.items():
        points = []
        for x in KNOBS[name]:
            mine = np.array([r[3:5] for r in found["rows"] if r[:2] == [name, x]])
            points.append(mine.mean(axis=0))
            ax.plot(mine[:, 0], 100 * mine[:, 1], ".", color=color, ms=4, alpha=0.5)
        nats, real = np.array(points).T
        ax.plot(nats, 100 * real, color=color, lw=1.5, label=name.replace("_", "-"))
    ax.set(xlabel="nats a token, under the unfiltered model", ylabel="real words, %")
    ax.legend()
    ax.set_title("Whichever knob is turned, the text moves along nearly the same curve")
    save(fig, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=32, help="texts for each setting and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="the tiny model, for a try")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, no more")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = plain(measure(options.pieces, options.seeds, options.fast))
    text = json.dumps(found, indent=1) + "\n"
    write_atomically(options.out / "decoding.json", text.encode())
    figure(draw, found, options.out / "decoding.svg")
    if options.json:
        print(json.dumps(found))
        return
    out = console()
    for level, knobs in found["at"].items():
        for name, values in knobs.items():
            out.print(f"{level} nats  {name:12}", *(v and f"{v:.1%}" for v in values))


if __name__ == "__main__":
    main()
