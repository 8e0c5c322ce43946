"""Day 48 · RMSNorm or LayerNorm, SwiGLU or GELU: which differences can a small GPT tell apart?

    python experiments/modern_parts.py [--fast] [--json] [--out DIR]

Six small GPTs on the characters of Shakespeare: each norm with each feed-forward, at equal
parameters (F = 8C/3 for SwiGLU, 4C for GELU), and two controls. SiLU without a gate has SwiGLU's
activation. "Bare" GELU has what else comes with SwiGLU: no biases, and at the start a branch that
is 0.75 times as wide, √(192 E[silu²] / 288 E[gelu²]) for normal inputs.

Held equal: the text, the order of the windows for a seed, steps, optimizer, schedule, spread of the
first weights. Each gets its own best rate: a grid of steps of 1.5 that grows until the best rate is
not at its edge, chosen on the first half of the held-out text. Fresh seeds at that rate are scored
on the second half, and parts are compared seed by seed.

One thread takes about a quarter of an hour (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1). Finished
runs are kept in DIR/modern_parts.json: stop with Ctrl-C and call again to go on.
"""

import dataclasses
import json
import math
import statistics
import time

import numpy as np

from days.day35 import job
from days.day48.small import VARIANTS, Plan, Texts, make_model, nats
from days.harness import (
    UsageError,
    machine,
    nearby,
    plain,
    print_table,
    progress,
    save,
    write_atomically,
)
from experiments.study import command_line
from llm.data.batches import random_windows
from llm.train.adam import AdamW
from llm.train.fast_gated import fast
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

COMPARED = [            # what, the mean of these, less the mean of those
    ("RMSNorm less LayerNorm, over both feed-forwards", ["RMSNorm, GELU", "RMSNorm, SwiGLU"],
     ["LayerNorm, GELU", "LayerNorm, SwiGLU"]),
    ("SwiGLU less GELU, over both norms", ["LayerNorm, SwiGLU", "RMSNorm, SwiGLU"],
     ["LayerNorm, GELU", "RMSNorm, GELU"]),
    ("RMSNorm less LayerNorm, with GELU", ["RMSNorm, GELU"], ["LayerNorm, GELU"]),
    ("RMSNorm less LayerNorm, with SwiGLU", ["RMSNorm, SwiGLU"], ["LayerNorm, SwiGLU"]),
    ("SwiGLU less GELU, with LayerNorm", ["LayerNorm, SwiGLU"], ["LayerNorm, GELU"]),
    ("SwiGLU less GELU, with RMSNorm", ["RMSNorm, SwiGLU"], ["RMSNorm, GELU"]),
    ("SwiGLU less SiLU, with LayerNorm", ["LayerNorm, SwiGLU"], ["LayerNorm, SiLU"]),
    ("SwiGLU less bare GELU, with LayerNorm", ["LayerNorm, SwiGLU"], ["LayerNorm, bare GELU"]),
    ("bare GELU less GELU, with LayerNorm", ["LayerNorm, bare GELU"], ["LayerNorm, GELU"]),
]
T99 = {1: 63.66, 2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499}    # Student's t


def one_run(plan, texts, variant, rate, seed, part):
    """Train one model and score it on `part` of the held-out text."""
    began = time.process_time()
    model = make_model(plan, texts.V, variant, np.random.default_rng([seed, 0]))
    parameters = model.named_parameters()
    done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
               random_windows(texts.train, plan.B, plan.T, np.random.default_rng([seed, 1])),
               AdamW(parameters, betas=(0.9, 0.99), decay=0.01), WarmupCosine(rate, plan.warmup),
               steps=plan.steps, clip=1.0)
    if done.interrupted:
        raise KeyboardInterrupt
    return {"variant": variant, "rate": rate, "seed": seed, "part": part,
            "parameters": model.count_parameters(), "skipped": done.skipped,
            "nats": round(nats(model, getattr(texts, part), plan.T), 5),
            "seconds": round(time.process_time() - began, 3)}


def measure(plan, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
    plan = dataclasses.replace(plan, corpus=corpus.name, characters=len(corpus.text))
    record, texts = kept(path, plan), Texts(plan, corpus)

    with fast(), progress(len(VARIANTS) * (5 * len(plan.choose) + len(plan.report)),
                          "about so many runs") as tick:
        def nats_of(*key):
            """Of this run, made now if it is not in the record."""
            names = "variant", "rate", "seed", "part"
            for run in record["runs"]:
                if key == tuple(run[name] for name in names):
                    tick()
                    return run["nats"]
            record["runs"].append(one_run(plan, texts, *key))
            write(record, path)
            tick(1, f"{key[0]}, rate {key[1]:.2g}: {record['runs'][-1]['nats']:.3f}")
            return record["runs"][-1]["nats"]

        for variant in VARIANTS:
            best, grid = best_rate(plan, lambda rate, variant=variant: statistics.mean(
                nats_of(variant, rate, seed, "choose") for seed in plan.choose))
            losses = [nats_of(variant, best, seed, "report") for seed in plan.report]
            record["variants"][variant] = {
                "parameters": next(run["parameters"] for run in record["runs"]
                                   if run["variant"] == variant),
                "rate": best, "grid": grid, "nats": losses, "mean": statistics.mean(losses),
                "lowest": min(losses), "highest": max(losses)}
    record["compared"] = [compare(record["variants"], *three) for three in COMPARED]
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def best_rate(plan, score):
    """(the rate of the lowest score, [[rate, score]]), from a grid that grows until it is inside.

    It may be at an edge only where a rate more than 20 times the first, or less than a 20th of
    it, would be next.
    """
    found = {rate: score(rate) for rate in plan.first_rates}
    while True:
        best = min(found, key=found.get)
        low, high = min(found), max(found)
        if best == low and low > plan.first_rates[0] / 20:
            new = round(low / plan.factor, 7)
        elif best == high and high < plan.first_rates[0] * 20:
            new = round(high * plan.factor, 7)
        else:
            return best, sorted([rate, value] for rate, value in found.items())
        found[new] = score(new)


def compare(variants, what, these, those):
    """The difference in nats, seed by seed: its mean and the half width of its 99 % interval."""
    sides = [[statistics.mean(losses) for losses in
              zip(*(variants[name]["nats"] for name in names), strict=True)]
             for names in (these, those)]
    apart = [x - y for x, y in zip(*sides, strict=True)]
    half = T99[len(apart) - 1] * statistics.stdev(apart) / math.sqrt(len(apart))
    mean = statistics.mean(apart)
    return {"what": what, "mean": mean, "half": half, "told_apart": abs(mean) > half}


def kept(path, plan):
    """The runs of an earlier call. UsageError if they were made in another way."""
    settings = plain(dataclasses.asdict(plan))
    if not path.exists():
        return {"settings": settings, "machine": machine(), "runs": [], "variants": {}}
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


def tables(record):
    """Two: the six models, and what can be told apart."""
    models = [["norm, feed-forward", "parameters", "best rate", "nats", "lowest", "highest"]]
    for name, v in record["variants"].items():
        models.append([name, f"{v['parameters']:,}", f"{v['rate']:.2g}", f"{v['mean']:.3f}",
                       f"{v['lowest']:.3f}", f"{v['highest']:.3f}"])
    pairs = [["difference", "nats", "99 %", "verdict"]]
    for c in record["compared"]:
        pairs.append([c["what"], f"{c['mean']:+.4f}", f"± {c['half']:.4f}",
                      "told apart" if c["told_apart"] else "cannot be told apart"])
    return models, pairs


def show(record):
    models, pairs = tables(record)
    s = record["settings"]
    print_table(models, f"{s['corpus']}, C {s['C']}, L {s['L']}, {s['steps']} steps; "
                        f"{len(s['report'])} fresh seeds, second half of the held-out text")
    print_table(pairs)


def draw(record, path):
    """Left: every grid, inside its edges. Right: every fresh seed at the best rate."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.6), width_ratios=[1, 1.25])
    looks = dict(zip(VARIANTS, (("#1f5a99", "-"), ("#1f5a99", "--"), ("#c4501b", "-"),
                                ("#c4501b", "--"), ("#8a8a8a", ":"), ("#555555", "-."))))
    for row, (name, v) in enumerate(record["variants"].items()):
        color, line = looks[name]
        left.plot(*zip(*v["grid"]), color=color, ls=line, marker="o", ms=3.5, label=name)
        right.plot(v["nats"], [row] * len(v["nats"]), "o", ms=6, color=color, alpha=.6)
        right.plot([v["mean"]] * 2, [row - .25, row + .25], color="#222222", lw=1.5)
    rates = sorted({rate for v in record["variants"].values() for rate, _ in v["grid"]})
    left.set_xscale("log")
    left.set_xticks(rates, [f"{1000 * rate:.3g}" for rate in rates], rotation=45)
    left.minorticks_off()
    fig.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    left.set(xlabel="peak rate, thousandths", ylabel="nats a character, first half")
    right.set_yticks(range(len(record["variants"])), list(record["variants"]))
    right.invert_yaxis()
    right.set(xlabel="nats a character, second half (line: mean)")
    fig.suptitle("; ".join(f"{c['what']}: {c['mean']:+.3f} ± {c['half']:.3f}"
                           for c in record["compared"][:2]) + " nats", x=.01, ha="left",
                 fontsize=9.5)
    save(fig, path)


def main():
    command_line("modern_parts", __doc__, Plan(), Plan.small(), measure, show, draw)


if __name__ == "__main__":
    main()
