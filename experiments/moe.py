"""Day 51 · Mixture of experts or dense: which differences can a small GPT tell apart?

    python experiments/moe.py [--fast] [--json] [--out DIR]

Small GPTs on the characters of Shakespeare that differ in the feed-forward alone. With experts: 8,
each half as wide as the dense one, of which a token uses 2, so that both multiply a token by
equally many weights (but for the router's). "Dense, 4 times as wide" has as many weights as all
the experts. Four variants of the experts differ in what keeps the load even. One control: what two
gates of about a half add at the start is smaller than what a dense layer adds, so "dense, half the
start" begins with half as much, too.

Held equal: the text, the order of the windows for a seed, steps, optimizer, schedule, spread of the
other weights. Each gets its own best rate: a grid of steps of 1.5 that grows until the best rate is
not at its edge, chosen on the first half of the held-out text. Fresh seeds at that rate are scored
on the second half, and compared seed by seed.

One thread takes about a quarter of an hour (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1). Finished
runs are kept in DIR/moe.json: stop with Ctrl-C and call again to go on.
"""

import dataclasses
import statistics
import time

from days.day35 import job
from days.day48.small import Texts, nats
from days.day51.small import MAIN, VARIANTS, K, N, Plan, loads, train
from days.harness import (
    print_table,
    progress,
    save,
)
from experiments.modern_parts import best_rate, compare, kept, write
from experiments.study import command_line
from llm.models.moe import MoEConfig, count_flops, count_parameters
from llm.train.fast_gated import fast

COMPARED = [            # what, the mean of these, less the mean of those
    ("experts less dense, equal active weights", [MAIN], ["dense"]),
    ("experts less dense with half the start", [MAIN], ["dense, half the start"]),
    ("experts less dense, equal weights in all", [MAIN], ["dense, 4 times as wide"]),
    ("α = 0 less α = 0.01", ["experts, α = 0"], [MAIN]),
    ("α = 1 less α = 0.01", ["experts, α = 1"], [MAIN]),
    ("biases less α = 0.01", ["experts, biases"], [MAIN]),
    ("fixed router less α = 0.01", ["experts, fixed router"], [MAIN]),
]


def one_run(plan, texts, variant, rate, seed, part):
    """Train one model and score it on `part` of the held-out text."""
    began = time.process_time()
    model, done = train(plan, texts, variant, rate, seed)
    return {"variant": variant, "rate": rate, "seed": seed, "part": part,
            "parameters": model.count_parameters(), "skipped": done.skipped,
            "nats": round(nats(model, getattr(texts, part), plan.T), 5),
            "loads": loads(model, getattr(texts, part), plan),
            "seconds": round(time.process_time() - began, 3)}


def measure(plan, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
    plan = dataclasses.replace(plan, corpus=corpus.name, characters=len(corpus.text))
    record, texts = kept(path, plan), Texts(plan, corpus)

    with fast(), progress(len(VARIANTS) * (4 * len(plan.choose) + len(plan.report)),
                          "about so many runs") as tick:
        def run_of(*key):
            """This run, made now if it is not in the record."""
            names = "variant", "rate", "seed", "part"
            for run in record["runs"]:
                if key == tuple(run[name] for name in names):
                    tick()
                    return run
            record["runs"].append(one_run(plan, texts, *key))
            write(record, path)
            tick(1, f"{key[0]}, rate {key[1]:.2g}: {record['runs'][-1]['nats']:.3f}")
            return record["runs"][-1]

        for variant in VARIANTS:
            best, grid = best_rate(plan, lambda rate, variant=variant: statistics.mean(
                run_of(variant, rate, seed, "choose")["nats"] for seed in plan.choose))
            runs = [run_of(variant, best, seed, "report") for seed in plan.report]
            record["variants"][variant] = summary(plan, texts.V, variant, best, grid, runs)
    record["compared"] = [compare(record["variants"], *three) for three in COMPARED]
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def summary(plan, V, variant, rate, grid, runs):
    """One variant in numbers: its size, its best rate, its fresh seeds, its loads."""
    losses = [run["nats"] for run in runs]
    total, active, flops = sizes(plan, V, variant)
    found = [f for run in runs for f in run["loads"]]
    return {"parameters": total, "active": active, "flops": flops, "rate": rate, "grid": grid,
            "nats": losses, "mean": statistics.mean(losses), "lowest": min(losses),
            "highest": max(losses),
            "busiest": [N * max(f) for f in found], "idlest": [N * min(f) for f in found]}


def sizes(plan, V, variant):
    """(parameters, of which one token uses, FLOPs of its forward)."""
    kind, wider, _ = VARIANTS[variant]
    shape = {"V": V, "T": plan.T, "C": plan.C, "L": plan.L, "H": plan.H, "rotary": True}
    if kind != "dense":
        config = MoEConfig(**shape, F=plan.F // K, N=N, k=K)
        return *count_parameters(config), count_flops(config)
    bare = MoEConfig(**shape, F=wider * plan.F, N=1, k=1)        # less its router and its sum
    total = count_parameters(bare)[0] - plan.L * plan.C
    return total, total, count_flops(bare) - 4 * plan.L * plan.C


def tables(record):
    """Two: the models, and what can be told apart."""
    models = [["feed-forward", "parameters", "active", "best rate", "nats", "lowest", "highest",
               "busiest", "idlest"]]
    for name, v in record["variants"].items():
        loads = ([f"{max(v['busiest']):.2f}", f"{min(v['idlest']):.2f}"] if v["busiest"]
                 else ["", ""])
        models.append([name, f"{v['parameters']:,}", f"{v['active']:,}", f"{v['rate']:.2g}",
                       f"{v['mean']:.3f}", f"{v['lowest']:.3f}", f"{v['highest']:.3f}", *loads])
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
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.8), width_ratios=[1, 1.25])
    looks = dict(zip(VARIANTS, (("#8a8a8a", "-"), ("#8a8a8a", "--"), ("#222222", "-"),
                                ("#1f5a99", "-"), ("#c4501b", "--"), ("#2e8b57", "-."),
                                ("#8e5ea2", ":"), ("#d4a017", "-."))))
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
    first, _, third = record["compared"][:3]
    fig.suptitle(f"Experts less dense, in nats: {first['mean']:+.3f} ± {first['half']:.3f} at "
                 f"equal active weights, {third['mean']:+.3f} ± {third['half']:.3f} at equal "
                 "weights in all", x=.01, ha="left", fontsize=9.5)
    save(fig, path)


def main():
    command_line("moe", __doc__, Plan(), Plan.small(), measure, show, draw)


if __name__ == "__main__":
    main()
