"""Day 19 · Schedules, warmups and limits, each at the best of its own rates, over fresh seeds.

    python experiments/schedules.py [--fast] [--json] [--out DIR]

Day 19's window model and 400 steps, as in days/day19/run.py. Held equal: the text, and for a seed
the first weights and the order of the windows. Each variant has a grid of peaks, steps of √2,
which grows until the best peak is not at its edge, judged by three seeds on one piece of held-out
text. Fresh seeds at that peak are scored on another piece. Two minutes on one core.
"""

import argparse
import json
import math
import statistics
import sys
from functools import partial
from pathlib import Path

from days.day19.bowl import MAKERS
from days.day19.lab import Lab
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
from llm.tokens.chars import CharTokenizer
from llm.train.schedule import WarmupCosine

STEP = math.sqrt(2)                      # between neighbours of a grid
CHOOSE, REPORT = (0, 10, 20), (100, 110, 120, 130, 140)
GROW = 8                                 # peaks that a grid may have beyond its first three
COMPARED = [("cosine", "constant"), ("warmup-stable-decay", "constant"), ("linear", "constant"),
            ("linear", "cosine"), ("linear", "warmup-stable-decay"),
            *((f"last layer × {n}, warm", f"last layer × {n}, bare") for n in (1, 30, 100)),
            ("plain, limit 0.1", "plain")]


def variants(warmup):
    """{name: (peak → schedule, the peak its grid grows from, options of the run)}."""
    found = {name: (partial(lambda make, peak: make(peak, warmup), make), start, {})
             for (name, make), start in zip(MAKERS.items(), (0.005, 0.014, 0.01, 0.02))}
    for last in (1, 30, 100):
        for length in (0, warmup):
            found[f"last layer × {last}, {'warm' if length else 'bare'}"] = (
                partial(lambda length, peak: WarmupCosine(peak, length), length),
                0.014 if last == 1 else 0.04, {"last": float(last)})
    cosine = partial(WarmupCosine, warmup=warmup)
    found["plain"] = cosine, 2.0, {"plain": True}
    found["plain, limit 0.1"] = cosine, 20.0, {"plain": True, "limit": 0.1}
    return found


def best_peak(start, score, grow=GROW):
    """(the peak of the lowest score, [[peak, score]]) from a grid around `start` that grows."""
    found = {k: score(start * STEP**k) for k in (-1, 0, 1)}
    for _ in range(grow):
        best = min(found, key=found.get)
        if min(found) < best < max(found):
            break
        k = best + (1 if best == max(found) else -1)
        found[k] = score(start * STEP**k)
    best = min(found, key=found.get)
    return start * STEP**best, min(found) < best < max(found), [
        [start * STEP**k, found[k]] for k in sorted(found)]


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    steps, warmup, size = (20, 5, 1_000) if fast else (400, 30, 20_000)
    pieces = {"choose": corpus.validation[:size], "report": corpus.validation[size:3 * size]}
    seen = tokenizer.encode(corpus.train[:1_000_000])
    labs = {part: Lab(tokenizer.vocab_size, seen, tokenizer.encode(text), 0, 1)
            for part, text in pieces.items()}
    rows, made = {}, variants(warmup)
    with progress(len(made), "variants") as bar:
        for name, (schedule, start, options) in made.items():
            def nats(peak, part, seed, schedule=schedule, options=options):
                return labs[part].run(schedule(peak), steps, seed=seed, **options).nats
            peak, inside, grid = best_peak(start, lambda peak, nats=nats: statistics.mean(
                nats(peak, "choose", seed) for seed in (CHOOSE[:1] if fast else CHOOSE)),
                0 if fast else GROW)
            losses = [nats(peak, "report", seed) for seed in (REPORT[:2] if fast else REPORT)]
            rows[name] = {"peak": peak, "inside": inside, "grid": grid, "nats": losses,
                          "mean": statistics.mean(losses), "sd": statistics.stdev(losses)}
            bar(1, f"{name}: {rows[name]['mean']:.3f} at {peak:.3g}")
    return {"corpus": corpus.name, "steps": steps, "warmup": warmup, "step": STEP,
            "variants": rows, "less": {f"{this} − {that}": less(rows[this], rows[that])
                                       for this, that in COMPARED},
            "seeds": len(REPORT), "fast": fast, "machine": machine()}


def less(this, that):
    """[mean, standard error] of this − that, seed by seed."""
    apart = [a - b for a, b in zip(this["nats"], that["nats"], strict=True)]
    return [statistics.mean(apart), statistics.stdev(apart) / math.sqrt(len(apart))]


def show(record):
    print_table([["variant", "best peak", "nats", "± sd"], *(
        [name, f"{v['peak']:.3g}" + ("" if v["inside"] else ", at the edge"), f"{v['mean']:.3f}",
         f"{v['sd']:.3f}"] for name, v in record["variants"].items())],
        f"{record['steps']} steps, {record['seeds']} fresh seeds, second piece of unseen text")
    print_table([["difference", "nats", "± se"], *(
        [name, f"{mean:+.3f}", f"{error:.3f}"] for name, (mean, error) in record["less"].items())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "schedules", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "schedules.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"schedules.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"schedules: {error}")
        sys.exit(2)
