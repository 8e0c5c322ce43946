"""Day 49 · What do shared keys cost a small Llama, and what does pooling a trained one?

    python experiments/grouped.py [--fast] [--json] [--out DIR]

First part: Llamas on the characters of Shakespeare with K = 4, 2 and 1 heads of keys and values,
once at equal everything else, and once at equal parameters, where the feed-forward gets the weights
that the keys gave up. Second part: the models with K = 4 are pooled to 2 and 1 heads and trained on
for a tenth of the steps. Beside them: other ways to make one head of a group, the same steps from
scratch, and the same steps for K = 4 itself.

Everything is compared as in modern_parts.py (day 48), whose machinery this borrows: each with its
own best rate from a grid of steps of 1.5 that grows until the best one is inside, chosen on the
first half of the held-out text; fresh seeds scored on the second half, and compared seed by seed.

One thread takes about ten minutes (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1). Finished runs are
kept in DIR/grouped.json: stop with Ctrl-C and call again to go on.
"""

import dataclasses
import functools
import statistics
import time

import numpy as np

from days.day35 import job
from days.day48.small import Texts, nats
from days.day49.pooling import WAYS, sizes
from days.day49.small import H, Plan, make_model, train
from days.harness import (
    print_table,
    progress,
    save,
)
from experiments.modern_parts import best_rate, compare, kept, write
from experiments.study import command_line
from llm.train.fast_gated import fast

LONG = {"K = 4": (4, 0), "K = 2": (2, 0), "K = 1": (1, 0),     # name: K, more channels in F
        "K = 2, equal parameters": (2, 24), "K = 1, equal parameters": (1, 36)}
SHORT = {f"K = {K}, {way}": (K, way) for K in (2, 1)
         for way in ("mean", "first", "flipped", "scratch")} | {"K = 4, mean": (4, "mean")}
COMPARED = [
    ("K = 2 less K = 4", "K = 2", "K = 4"), ("K = 1 less K = 4", "K = 1", "K = 4"),
    ("K = 1 less K = 2", "K = 1", "K = 2"),
    ("K = 2 less K = 4, equal parameters", "K = 2, equal parameters", "K = 4"),
    ("K = 1 less K = 4, equal parameters", "K = 1, equal parameters", "K = 4"),
    ("pooled to 2, less K = 2 trained in full", "K = 2, mean", "K = 2"),
    ("pooled to 1, less K = 1 trained in full", "K = 1, mean", "K = 1"),
    ("mean less scratch, K = 2", "K = 2, mean", "K = 2, scratch"),
    ("mean less scratch, K = 1", "K = 1, mean", "K = 1, scratch"),
    ("mean less first, K = 2", "K = 2, mean", "K = 2, first"),
    ("mean less first, K = 1", "K = 1, mean", "K = 1, first"),
    ("mean less mean of flipped, K = 2", "K = 2, mean", "K = 2, flipped"),
    ("mean less mean of flipped, K = 1", "K = 1, mean", "K = 1, flipped")]


class Study:
    """The record, and the trained models with K = H that pooling starts from."""

    def __init__(self, plan, texts, record, path):
        self.plan, self.texts, self.record, self.path = plan, texts, record, path
        self.trained = {}

    def many(self, seed):
        """The state of K = H, trained at its best rate from this seed."""
        if seed not in self.trained:
            model = make_model(self.plan, self.texts.V, H, 0, np.random.default_rng([seed, 0]))
            train(self.plan, self.texts, model, self.record["variants"]["K = 4"]["rate"], seed,
                  False)
            self.trained[seed] = model.state_dict()
        return self.trained[seed]

    def one_run(self, name, rate, seed, part):
        """Train one model and score it on `part` of the held-out text."""
        began, ids = time.process_time(), getattr(self.texts, part)
        K, way = LONG.get(name) or SHORT[name]
        short = name in SHORT
        model = make_model(self.plan, self.texts.V, K, 0 if short else way,
                           np.random.default_rng([seed, 0]))
        run = {"variant": name, "rate": rate, "seed": seed, "part": part,
               "parameters": model.count_parameters()}
        if short and way != "scratch":
            state = self.many(seed)
            model.load_state_dict(WAYS[way](state, H, K, np.random.default_rng([seed, 3])))
            if part == "report":
                run |= {"before": round(nats(model, ids, self.plan.T), 5),
                        "sizes": [round(x, 4) for x in sizes(state, H, K)]}
        done = train(self.plan, self.texts, model, rate, seed, short)
        return run | {"skipped": done.skipped, "nats": round(nats(model, ids, self.plan.T), 5),
                      "seconds": round(time.process_time() - began, 3)}

    def run(self, *key):
        """The run of this key, made now if it is not in the record."""
        names = "variant", "rate", "seed", "part"
        for run in self.record["runs"]:
            if key == tuple(run[name] for name in names):
                return run
        self.record["runs"].append(self.one_run(*key))
        write(self.record, self.path)
        return self.record["runs"][-1]


def measure(plan, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
    plan = dataclasses.replace(plan, corpus=corpus.name, characters=len(corpus.text))
    record, texts = kept(path, plan), Texts(plan, corpus)
    study = Study(plan, texts, record, path)
    short_plan = dataclasses.replace(plan, first_rates=plan.short_rates)
    total = (len(LONG) + len(SHORT)) * (4 * len(plan.choose) + len(plan.report))
    with fast(), progress(total, "about so many runs") as tick:
        def score(name, rate):
            tick(len(plan.choose), f"{name}, rate {rate:.2g}")
            return statistics.mean(study.run(name, rate, seed, "choose")["nats"]
                                   for seed in plan.choose)

        for name in [*LONG, *SHORT]:
            best, grid = best_rate(short_plan if name in SHORT else plan,
                                   functools.partial(score, name))
            runs = [study.run(name, best, seed, "report") for seed in plan.report]
            tick(len(runs), name)
            losses = [run["nats"] for run in runs]
            record["variants"][name] = {
                "parameters": runs[0]["parameters"], "rate": best, "grid": grid, "nats": losses,
                "mean": statistics.mean(losses), "lowest": min(losses), "highest": max(losses)}
            if "before" in runs[0]:
                record["variants"][name] |= {
                    "before": [run["before"] for run in runs],
                    "sizes": np.mean([run["sizes"] for run in runs], axis=0).tolist()}
            write(record, path)
    record["compared"] = [compare(record["variants"], what, [this], [that])
                          for what, this, that in COMPARED]
    record["before"] = [before(record["variants"], K, way) for K in (2, 1)
                        for way in ("first", "flipped")]
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def before(variants, K, way):
    """Right after pooling: the mean less another way, seed by seed."""
    sides = {name: {"nats": variants[f"K = {K}, {name}"]["before"]} for name in ("mean", way)}
    return compare(sides, f"right after pooling, mean less {way}, K = {K}", ["mean"], [way])


def tables(record):
    """Two: the models, and what can be told apart."""
    models = [["model", "parameters", "best rate", "right after", "nats", "lowest", "highest"]]
    for name, v in record["variants"].items():
        after = f"{statistics.mean(v['before']):.3f}" if "before" in v else ""
        models.append([name, f"{v['parameters']:,}", f"{v['rate']:.2g}", after,
                       f"{v['mean']:.3f}", f"{v['lowest']:.3f}", f"{v['highest']:.3f}"])
    pairs = [["difference", "nats", "99 %", "verdict"]]
    for c in record["compared"] + record["before"]:
        pairs.append([c["what"], f"{c['mean']:+.4f}", f"± {c['half']:.4f}",
                      "told apart" if c["told_apart"] else "cannot be told apart"])
    return models, pairs


def show(record):
    s = record["settings"]
    models, pairs = tables(record)
    print_table(models, f"{s['corpus']}, C {s['C']}, L {s['L']}, H {H}; {s['steps']} steps, or "
                f"{s['short']} after pooling")
    print_table(pairs, f"{len(s['report'])} fresh seeds")


def draw(record, path):
    """Left: the models trained in full. Right: pooled, right after and trained on."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4), width_ratios=[1, 1.2])
    v = record["variants"]
    names = {"K = 4": "K = 4", "K = 2": "K = 2", "K = 1": "K = 1",
             "K = 2, equal parameters": "K = 2, wider F", "K = 1, equal parameters":
             "K = 1, wider F"}
    for row, name in enumerate(names):
        color = "#1b4965" if "equal" not in name else "#6a994e"
        left.plot(v[name]["nats"], [row] * len(v[name]["nats"]), "o", ms=6, color=color, alpha=.6)
        left.plot([v[name]["mean"]] * 2, [row - .25, row + .25], color="#222222", lw=1.5)
    left.set_yticks(range(len(names)), names.values())
    left.invert_yaxis()
    left.set(xlabel="nats a character (line: mean)", title="trained in full")
    ways = {"mean": "mean", "first": "first head", "flipped": "mean, signs flipped",
            "scratch": "from scratch"}
    for i, K in enumerate((2, 1)):
        for j, way in enumerate(ways):
            at, row = v[f"K = {K}, {way}"], j + (i - .5) * .3
            color = ("#1b4965", "#c8553d")[i]
            if "before" in at:
                right.plot(at["before"], [row] * len(at["before"]), "x", ms=5, color=color,
                           alpha=.7, label=f"K = {K}, right after" if j == 0 else None)
            right.plot(at["nats"], [row] * len(at["nats"]), "o", ms=5, color=color, alpha=.6,
                       label=f"K = {K}, after {record['settings']['short']} steps" if j == 0
                       else None)
    right.set_yticks(range(len(ways)), ways.values())
    right.invert_yaxis()
    right.set(xlabel="nats a character", title="pooled from K = 4")
    fig.legend(loc="outside lower center", ncols=4, fontsize=8.5)
    fig.suptitle("; ".join(f"{c['what']}: {c['mean']:+.3f} ± {c['half']:.3f}"
                           for c in record["compared"][:2]) + " nats", x=.01, ha="left",
                 fontsize=10)
    save(fig, path)


def main():
    command_line("grouped", __doc__, Plan(), Plan.small(), measure, show, draw)


if __name__ == "__main__":
    main()
