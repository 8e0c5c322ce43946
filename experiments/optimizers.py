"""Day 35 · Plain steps, momentum, Adam, AdamW or Muon: which can a small GPT tell apart?

    python experiments/optimizers.py [--fast] [--json] [--out DIR]

One small GPT of day 35's shape on the characters of Shakespeare, with five optimizers. Held equal:
the text, the first weights and the order of the windows for a seed, steps, warmup and cosine,
clipping. Each optimizer gets its own best rate: a grid of steps of 1.5 that grows until the best
rate is not at its edge, chosen on the first half of the held-out text. Fresh seeds at that rate are
scored on the second half, and optimizers are compared seed by seed.

Counted in steps, not in seconds: Muon's steps cost more, and `flops` says how much. Finished runs
are kept in DIR/optimizers.json: stop with Ctrl-C and call again to go on. One thread takes about
three minutes (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1).
"""

import dataclasses
import json
import math
import statistics
import time
from functools import partial

import numpy as np

from days.day35 import job
from days.harness import (
    UsageError,
    kernels,
    machine,
    nearby,
    plain,
    print_table,
    progress,
    save,
    write_atomically,
)
from experiments.study import command_line
from llm.data.batches import random_windows, sliding_windows
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig, make_block
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.muon import Muon
from llm.train.schedule import WarmupCosine
from llm.train.sgd import SGD

BETAS = 0.9, 0.99
MAKE = {                 # name: (optimizer of named parameters, the rates its grid grows from)
    "plain steps": (SGD, (0.6, 0.9, 1.35)),
    "momentum 0.9": (partial(SGD, momentum=0.9), (0.08, 0.12, 0.18)),
    "Adam": (partial(AdamW, betas=BETAS, decay=0.0), (3e-3, 4.5e-3, 6.75e-3)),
    "AdamW, decay 0.1": (partial(AdamW, betas=BETAS, decay=0.1), (3e-3, 4.5e-3, 6.75e-3)),
    "Muon, decay 0.1": (partial(Muon, betas=BETAS, decay=0.1), (4.5e-3, 6.75e-3, 1.01e-2)),
}
COMPARED = [("momentum 0.9", "plain steps"), ("Adam", "momentum 0.9"),
            ("AdamW, decay 0.1", "Adam"), ("Muon, decay 0.1", "AdamW, decay 0.1")]
T99 = {1: 63.66, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032}     # Student's t, two-sided, 99 %


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal; runs are kept only where all of it is the same."""

    corpus: str = "shakespeare"
    characters: int = 10**9              # of the corpus, at most
    validate: int = 10_000               # characters of each half of the held-out tenth, at most
    B: int = 8                           # windows a batch
    T: int = 64                          # characters a window
    C: int = 64
    L: int = 2
    H: int = 2
    std: float = 0.125                   # of the blocks' weights at the start, 1/√C
    steps: int = 250
    warmup: int = 30
    clip: float = 1.0
    factor: float = 1.5                  # between neighbours of the grid
    grow: int = 8                        # rates that a grid may have beyond its first three
    choose: tuple = (0, 1)               # seeds on the grid
    report: tuple = (10, 11, 12, 13)     # fresh seeds at the best rate

    @classmethod
    def small(cls):
        """For --fast: everything happens, on little."""
        return cls(characters=50_000, validate=1000, T=16, C=12, L=1, steps=4, warmup=1,
                   grow=1, choose=(0,), report=(10, 11))


class Texts:
    """The corpus as ids: training text, and two held-out pieces."""

    def __init__(self, plan, corpus):
        tokenizer = CharTokenizer.from_text(corpus.text)
        self.V, half = tokenizer.vocab_size, len(corpus.validation) // 2
        self.train = tokenizer.encode(corpus.train)
        self.choose, self.report = (tokenizer.encode(corpus.validation[i:i + plan.validate + 1])
                                    for i in (0, half))


def one_run(plan, texts, name, rate, seed, part):
    """Train one model and score it on `part` of the held-out text."""
    began = time.process_time()
    config = GPTConfig(V=texts.V, T=plan.T, C=plan.C, L=plan.L, H=plan.H, rotary=True)
    model = GPT(config, np.random.default_rng([seed, 0]), partial(make_block, std=plan.std))
    parameters = model.named_parameters()
    done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
               random_windows(texts.train, plan.B, plan.T, np.random.default_rng([seed, 1])),
               MAKE[name][0](parameters), WarmupCosine(rate, plan.warmup), steps=plan.steps,
               clip=plan.clip)
    if done.interrupted:
        raise KeyboardInterrupt
    total, count = 0.0, 0
    with no_grad():                      # each from at least T/2 characters before it
        for inputs, targets in sliding_windows(getattr(texts, part), 64, plan.T, plan.T // 2):
            kept = int((targets != -100).sum())
            total, count = total + float(model.loss(inputs, targets).data) * kept, count + kept
    return {"optimizer": name, "rate": rate, "seed": seed, "part": part, "skipped": done.skipped,
            "parameters": model.count_parameters(), "nats": round(total / count, 5),
            "seconds": round(time.process_time() - began, 2)}


def measure(plan, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
    plan = dataclasses.replace(plan, corpus=corpus.name, characters=len(corpus.text))
    record, texts = kept(path, plan), Texts(plan, corpus)

    with kernels(), progress(len(MAKE) * (4 * len(plan.choose) + len(plan.report)),
                             "about so many runs") as tick:
        def nats_of(*key):
            """Of this run, made now if it is not in the record."""
            for run in record["runs"]:
                if key == (run["optimizer"], run["rate"], run["seed"], run["part"]):
                    return run["nats"]
            record["runs"].append(one_run(plan, texts, *key))
            write(record, path)
            tick(1, f"{key[0]}, rate {key[1]:.2g}: {record['runs'][-1]['nats']:.3f}")
            return record["runs"][-1]["nats"]

        for name, (_, first) in MAKE.items():
            best, grid = best_rate(plan, first, lambda rate, name=name: statistics.mean(
                nats_of(name, rate, seed, "choose") for seed in plan.choose))
            losses = [nats_of(name, best, seed, "report") for seed in plan.report]
            record["optimizers"][name] = {
                "rate": best, "inside": grid[0][0] < best < grid[-1][0], "grid": grid,
                "nats": losses, "mean": statistics.mean(losses), "lowest": min(losses),
                "highest": max(losses)}
    record["compared"] = [compare(record["optimizers"], *two) for two in COMPARED]
    record["flops"] = muon_flops(plan)
    record["parameters"] = record["runs"][0]["parameters"]
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def best_rate(plan, first, score):
    """(the rate of the lowest score, [[rate, score]]), from a grid that grows until it is inside.

    After `plan.grow` more rates it stays where it is; the best rate may then be at the edge.
    """
    found = {rate: score(rate) for rate in first}
    for _ in range(plan.grow):
        best = min(found, key=found.get)
        if min(found) < best < max(found):
            break
        new = best * plan.factor if best == max(found) else best / plan.factor
        found[float(f"{new:.4g}")] = score(float(f"{new:.4g}"))
    return min(found, key=found.get), sorted([rate, value] for rate, value in found.items())


def compare(optimizers, this, that):
    """The difference in nats, seed by seed: its mean and the half width of its 99 % interval."""
    apart = [x - y for x, y in zip(*(optimizers[n]["nats"] for n in (this, that)), strict=True)]
    half = T99[len(apart) - 1] * statistics.stdev(apart) / math.sqrt(len(apart))
    mean = statistics.mean(apart)
    return {"what": f"{this} less {that}", "mean": mean, "half": half,
            "told_apart": abs(mean) > half}


def muon_flops(plan):
    """FLOPs of the five iterations over a step's, forward and backward: 20n²m + 10n³ a matrix."""
    C, tokens = plan.C, plan.B * plan.T
    shapes = [(C, 3 * C), (C, C), (C, 4 * C), (C, 4 * C)]
    iteration = sum(20 * n * n * m + 10 * n**3 for n, m in shapes)
    return iteration / (6 * tokens * sum(n * m for n, m in shapes))


def kept(path, plan):
    """The runs of an earlier call. UsageError if they were made in another way."""
    settings = plain(dataclasses.asdict(plan))
    if not path.exists():
        return {"settings": settings, "machine": machine(), "runs": [], "optimizers": {}}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["settings"] == settings
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise UsageError(f"{nearby(path)} holds runs of other settings, or is damaged: delete it, "
                         "or choose another --out")
    return record


def write(record, path):
    """The whole record, or the old file."""
    write_atomically(path, (json.dumps(plain(record), indent=1) + "\n").encode())


def show(record):
    rows = [["optimizer", "best rate", "nats", "lowest", "highest"]]
    for name, v in record["optimizers"].items():
        rows.append([name, f"{v['rate']:.3g}" + ("" if v["inside"] else ", at the edge"),
                     f"{v['mean']:.3f}", f"{v['lowest']:.3f}", f"{v['highest']:.3f}"])
    s = record["settings"]
    print_table(rows, f"{s['corpus']}, C {s['C']}, L {s['L']}, {s['steps']} steps; "
                      f"{len(s['report'])} fresh seeds, second half of the held-out text")
    print_table([["difference", "nats", "99 %", "verdict"], *(
        [c["what"], f"{c['mean']:+.3f}", f"± {c['half']:.3f}",
         "told apart" if c["told_apart"] else "cannot be told apart"]
        for c in record["compared"])])
    print(f"Muon's iterations: {100 * record['flops']:.0f} % of the FLOPs of the blocks' products")


def draw(record, path):
    """Left: every grid, its rates over the best one. Right: every fresh seed at the best rate."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.4), width_ratios=[1, 1.2])
    colors = dict(zip(MAKE, ("#1f5fa8", "#7b5ea7", "#c2571a", "#8a8a8a", "#2e7d4f")))
    for row, (name, v) in enumerate(record["optimizers"].items()):
        left.plot([rate / v["rate"] for rate, _ in v["grid"]], [x for _, x in v["grid"]], "o-",
                  ms=4, color=colors[name], label=f"{name}, best at {v['rate']:.2g}")
        right.plot(v["nats"], [row] * len(v["nats"]), "o", ms=6, color=colors[name], alpha=.6)
        right.plot([v["mean"]] * 2, [row - .25, row + .25], color="#222222", lw=1.5)
    ticks = [1.5 ** k for k in range(-3, 4)]
    left.set_xscale("log")
    left.set_xticks(ticks, [f"{t:.2g}" for t in ticks])
    left.minorticks_off()
    left.set(xlabel="rate / the best rate", ylabel="nats a character, first half")
    fig.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    right.set_yticks(range(len(record["optimizers"])), list(record["optimizers"]))
    right.invert_yaxis()
    right.set(xlabel="nats a character, second half (line: mean)")
    by = {c["what"]: c for c in record["compared"]}
    words = [f"{what}: {by[what]['mean']:+.3f} ± {by[what]['half']:.3f}" for what in
             (f"{a} less {b}" for a, b in (COMPARED[1], COMPARED[3]))]
    fig.suptitle("; ".join(words) + " nats", x=.01, ha="left", fontsize=9.5)
    save(fig, path)


def main():
    command_line("optimizers", __doc__, Plan(), Plan.small(), measure, show, draw)


if __name__ == "__main__":
    main()
