"""Day 45 · Which of the ways to four bits can be told apart? Seeds of calibration, and a control.

    python experiments/four_bits.py            # about six minutes; goes on where it was stopped
    python experiments/four_bits.py --fast     # seconds, a tiny model, nothing is kept

The reader's GPT is rounded in several ways, each with several calibration texts, and pays for the
second half of the held-out text; GPTQ's dampening is chosen on the first half. "luck" rounds to
nearest after scales that mean nothing. The control is the same function with a few inputs made
thirty times as large. Writes four_bits.json and four_bits.svg.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from days.day35.trained import trained
from days.day45.models import (
    by_awq,
    by_both,
    by_gptq,
    by_luck,
    louder,
    rounded,
    untied,
    with_groups,
)
from days.day45.score import calibration, characters, prices, windows
from days.harness import figure, save, say, write_atomically
from llm.generate.architecture import gpt_weights

WAYS = {"nearest": None, "nearest, other luck": by_luck, "AWQ": by_awq,
        "GPTQ, fixed grids": {"static": True}, "GPTQ": {}, "GPTQ, act-order":
        {"act_order": True}, "AWQ, then GPTQ": by_both}
DAMPS = (0.0013, 0.002, 0.003, 0.0044, 0.0067, 0.01, 0.015, 0.0225, 0.034, 0.05, 0.076)
FACTOR = 30.0
HERE = Path(__file__).with_suffix(".json")


class Study:
    """One model, its texts, and results that are kept under a key once they are there."""

    def __init__(self, fast):
        self.reader = t = trained(fast)
        self.arch, weights = gpt_weights(t.model.state_dict(), t.config)
        self.weights, self.fast = untied(weights), fast
        self.loud = louder(self.arch, self.weights, FACTOR)
        ids = np.array(t.tokenizer.encode(t.corpus.validation))
        count = 12 if fast else 400
        self.first, self.second = (windows(self.arch, part, count) for part in
                                   np.array_split(ids, 2))
        self.seeds = range(2 if fast else 6)
        self.texts = [calibration(t, seed, 8 if fast else 64) for seed in self.seeds]
        self.file = None if fast else HERE
        self.kept = json.loads(HERE.read_text()) if self.file and HERE.exists() else {}

    def keep(self, key, make):
        if key not in self.kept:
            self.kept[key] = make()
            if self.file:
                write_atomically(HERE, (json.dumps(self.kept, indent=1) + "\n").encode())
            say(f"{key}: {str(self.kept[key])[:100]}")
        return self.kept[key]

    def base(self, half):
        parts = getattr(self, half)
        return prices(self.arch, self.weights, parts), characters(self.reader.tokenizer, self.arch,
                                                                 parts)

    def more(self, weights, half, way, seed, **settings):
        """[nats a character more than in float32, the standard error over windows]."""
        base, count = self.base(half) if not hasattr(self, half + "_base") else getattr(
            self, half + "_base")
        setattr(self, half + "_base", (base, count))
        texts, how = self.texts[seed], WAYS[way]
        if how is None:
            groups, changed = rounded(self.arch, weights)
        elif how is by_luck:
            groups, changed = by_luck(self.arch, weights, texts, np.random.default_rng(seed))
        elif how in (by_awq, by_both):
            groups, changed = how(self.arch, weights, texts)
        else:
            groups, changed = by_gptq(self.arch, weights, texts, **how, **settings)
        more = prices(self.arch, with_groups(weights | changed, groups), getattr(self, half)) - base
        return [more.sum() / count, more.std(ddof=1) * len(more) ** 0.5 / count]


def difference(rows, other, better):
    """Over calibrations: the mean of `other` less `better`, and its 99 % interval's half."""
    from math import sqrt
    d = np.array([a[0] for a in rows[other]]) - np.array([b[0] for b in rows[better]])
    t99 = {1: 63.66, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032}[len(d) - 1]      # Student's t
    half = t99 * d.std(ddof=1) / sqrt(len(d))
    return {"mean": float(d.mean()), "half": float(half), "told": bool(abs(d.mean()) > half)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true")
    study = Study(parser.parse_args().fast)
    damps = DAMPS[::5] if study.fast else DAMPS
    some = list(study.seeds)[:3]
    for damp in damps:
        study.keep(f"damp {damp}", lambda: [study.more(study.weights, "first", "GPTQ", seed,
                                                       damp=damp) for seed in some])  # noqa: B023
    table = {}
    for kind, weights in (("as trained", study.weights), ("louder", study.loud)):
        table[kind] = {}
        for way in WAYS:
            seeds = [0] if way == "nearest" else study.seeds
            seeds = list(seeds)[:3] if kind == "louder" else seeds
            table[kind][way] = study.keep(f"{kind}: {way}", lambda: [
                study.more(weights, "second", way, seed) for seed in seeds])  # noqa: B023
    rows = table["as trained"]
    base, count = study.base("second")
    study.keep("summary", lambda: {
        "float32": base.sum() / count, "characters": count, "factor": FACTOR, "seeds": len(
            study.seeds), "damps": list(damps),
        "damp": [[d, float(np.mean([m for m, _ in study.kept[f"damp {d}"]]))] for d in damps],
        "means": {kind: {way: float(np.mean([m for m, _ in found])) for way, found in ways.items()}
                  for kind, ways in table.items()},
        "spread": {kind: {way: [min(m for m, _ in found), max(m for m, _ in found)]
                          for way, found in ways.items()} for kind, ways in table.items()},
        "compared": {f"{a} less {b}": difference(rows, a, b) for a, b in (
            ("nearest, other luck", "GPTQ"), ("AWQ", "GPTQ"), ("nearest, other luck", "AWQ"),
            ("AWQ, then GPTQ", "GPTQ"), ("GPTQ", "GPTQ, act-order"),
            ("GPTQ, fixed grids", "GPTQ, act-order"), ("GPTQ, fixed grids", "GPTQ"))}})
    print(json.dumps(study.kept["summary"], indent=1))
    if study.file:
        figure(draw, study.kept, HERE.with_suffix(".svg"))


def draw(kept, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(8.8, 3.8), sharey=True)
    for ax, kind, title in zip(axes, ("as trained", "louder"), (
            "as trained", f"the same function, one input in 32 times {FACTOR:.0f}")):
        for y, way in enumerate(reversed(WAYS)):
            found = [1e3 * m for m, _ in kept[f"{kind}: {way}"]]
            ax.plot(found, [y] * len(found), "o", color="#1b4965", alpha=0.6, ms=5)
        ax.set(yticks=range(len(WAYS)), yticklabels=list(reversed(WAYS)),
               xlabel="thousandths of a nat a character more")
        ax.set_xlim(left=0)
        ax.set_title(title, fontsize=10)
    fig.suptitle("GPTQ loses least in the model as it is; with loud inputs one needs AWQ", x=0.01,
                 ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main()
