"""Day 54 · Which rank, and which scale? And how low is the rank of a full fine-tuning's change?

    python experiments/lora.py [--fast] [--json] [--out DIR]

The reader's GPT (day 35), which knows Shakespeare, is fine-tuned on Python's language reference, a
text it has never met, for eighty steps: all of it, or its matrices alone, or adapters beside
these matrices of rank 1, 4 and 64, scaled by α/√r or by α/r. The two scales agree at rank 4.

Everything is compared as in modern_parts.py (day 48), whose machinery this borrows: each with its
own best rate from a grid of steps of 1.5 that grows until the best one is inside, chosen on the
first half of the held-out text; fresh seeds scored on the second half, and compared seed by seed.
Then the change ΔW of the matrices that were trained in full is cut to its r largest singular values
and scored again; beside it stand the singular values of random matrices of the same shape.

One thread takes six minutes (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1). Finished runs are
kept in DIR/lora.json: stop with Ctrl-C and call again to go on.
"""

import dataclasses
import functools
import statistics
import time

import numpy as np

from days.day35 import job
from days.day35.trained import trained
from days.harness import (
    print_table,
    progress,
    save,
)
from experiments.modern_parts import best_rate, compare, kept, nats, write
from experiments.study import command_line
from llm.data.batches import random_windows
from llm.layers.module import Linear
from llm.models.gpt import GPT
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine
from llm.tune.fast_lora import fast
from llm.tune.lora import add_lora

RANKS, AGREE = (1, 4, 64), 4
TARGETS = ("qkv", "project", "up", "down")
ROOTS = {f"rank {r}, α/√r": (r, True) for r in RANKS}
PLAIN = {f"rank {r}, α/r": (r, False) for r in RANKS if r != AGREE}
FULL = ("everything", "the matrices")
COMPARED = [
    ("the matrices less everything", "the matrices", "everything"),
    *((f"rank {r} less the matrices", f"rank {r}, α/√r", "the matrices") for r in RANKS),
    *((f"rank {s} less rank {r}", f"rank {s}, α/√r", f"rank {r}, α/√r")
      for r, s in zip(RANKS, RANKS[1:])),
    *((f"rank {r}: α/√r less α/r", f"rank {r}, α/√r", f"rank {r}, α/r")
      for r in RANKS if r != AGREE)]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is held equal; runs are kept only where all of it is the same."""

    small: bool = False                  # the reader's tiny GPT
    corpus: str = "python"
    characters: int = 10**9
    validate: int = 12_000               # characters of each half of the held-out tenth, at most
    B: int = 4                           # windows a batch
    T: int = 64                          # tokens a window
    steps: int = 80
    warmup: int = 10
    scale: float = 2.0                   # of the adapters at rank AGREE, for both kinds
    first_rates: tuple = (0.010125, 0.0151875, 0.0227812)   # the grid grows from here
    factor: float = 1.5                  # between neighbours
    choose: tuple = (0, 1, 2)            # seeds on the grid
    report: tuple = tuple(range(10, 16)) # fresh seeds at the best rate

    @classmethod
    def tiny(cls):
        """For --fast: everything happens, on little."""
        return cls(small=True, characters=30_000, validate=800, B=2, T=16, steps=3,
                   first_rates=(1e-2,), choose=(0,), report=(10, 11))


class Study:
    """The texts, the reader's GPT, and what has been run."""

    def __init__(self, plan, record, path):
        self.plan, self.record, self.path = plan, record, path
        self.reader = trained(plan.small)
        corpus = job.load_corpus(plan.corpus, job.Recipe(T=plan.T, characters=plan.characters))
        encode, half = self.reader.tokenizer.encode, len(corpus.validation) // 2
        self.train = encode(corpus.train)
        self.choose, self.report = (encode(corpus.validation[i:i + plan.validate])
                                    for i in (0, half))

    def model(self, name, seed):
        """A fresh copy of the reader's GPT, with what `name` lets be trained."""
        model = GPT(self.reader.config, np.random.default_rng(0))
        model.load_state_dict(self.reader.model.state_dict())
        if name == "the matrices":
            trainable = {id(layer.w) for _, layer in model.named(Linear)}
            for p in model.named_parameters().values():
                p.requires_grad = id(p) in trainable
        elif name != "everything":
            rank, root = (ROOTS | PLAIN)[name]
            alpha = self.plan.scale * (AGREE ** 0.5 if root else AGREE)
            add_lora(model, rank, alpha, np.random.default_rng([seed, 0]), TARGETS, root)
        return model

    def tuned(self, name, rate, seed):
        """The model after its steps."""
        model, plan = self.model(name, seed), self.plan
        parameters = model.named_parameters()
        done = fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
                   random_windows(self.train, plan.B, plan.T, np.random.default_rng([seed, 1])),
                   AdamW(parameters, betas=(0.9, 0.99), decay=0.0),
                   WarmupCosine(rate, plan.warmup), steps=plan.steps, clip=1.0)
        if done.interrupted:
            raise KeyboardInterrupt
        return model

    def run(self, name, rate, seed, part):
        """The run of this key, made now if it is not in the record."""
        key = {"variant": name, "rate": rate, "seed": seed, "part": part}
        for run in self.record["runs"]:
            if key.items() <= run.items():
                return run
        began = time.process_time()
        model = self.tuned(name, rate, seed)
        run = key | {"parameters": model.count_parameters(),
                     "nats": round(nats(model, getattr(self, part), self.plan.T), 5)}
        if name == "the matrices" and part == "report":
            run |= self.spectra(model)
        self.record["runs"].append(run | {"seconds": round(time.process_time() - began, 3)})
        write(self.record, self.path)
        return self.record["runs"][-1]

    def spectra(self, model):
        """Of each matrix's change: its singular values; and the loss with the change cut."""
        before = {path: layer.w.data for path, layer in self.reader.model.named(Linear)}
        after = dict(model.named(Linear))
        parts = {path: np.linalg.svd(layer.w.data - before[path], full_matrices=False)
                 for path, layer in after.items()}
        cut = []
        for r in RANKS:
            for path, (u, s, v) in parts.items():
                after[path].w.data = (before[path] + (u[:, :r] * s[:r]) @ v[:r]).astype(np.float32)
            cut.append(round(nats(model, self.report, self.plan.T), 5))
        return {"cut": cut, "share": {path: share(s) for path, (_, s, _) in parts.items()}}


def share(s):
    """The shares of the squared length that the RANKS largest singular values hold, and how many
    of them hold 90 %."""
    total = np.cumsum(s.astype(float)**2) / (s.astype(float)**2).sum()
    return [*(round(float(total[min(r, len(s)) - 1]), 4) for r in RANKS),
            int(np.searchsorted(total, 0.9)) + 1]


def measure(plan, path):
    """Make every run that `path` does not hold yet, written after each; returns the record."""
    record = kept(path, plan)
    with fast():
        study = Study(plan, record, path)
        names = [*FULL, *ROOTS, *PLAIN]
        with progress(len(names) * (4 * len(plan.choose) + len(plan.report)), "runs") as tick:
            def score(name, rate):
                tick(len(plan.choose), f"{name}, rate {rate:.2g}")
                return statistics.mean(study.run(name, rate, seed, "choose")["nats"]
                                       for seed in plan.choose)

            for name in names:
                begin = dataclasses.replace(plan, first_rates=tuple(
                    round(rate / (5 if name in FULL else 1), 7) for rate in plan.first_rates))
                best, grid = best_rate(begin, functools.partial(score, name))
                runs = [study.run(name, best, seed, "report") for seed in plan.report]
                tick(len(runs), name)
                losses = [run["nats"] for run in runs]
                record["variants"][name] = {
                    "parameters": runs[0]["parameters"], "rate": best, "grid": grid,
                    "nats": losses, "mean": statistics.mean(losses), "lowest": min(losses),
                    "highest": max(losses)}
                if "cut" in runs[0]:
                    record["cut"] = [run["cut"] for run in runs]
                    record["share"] = {path: np.mean([run["share"][path] for run in runs],
                                                     axis=0).round(4).tolist()
                                       for path in runs[0]["share"]}
                write(record, path)
        record["before"] = nats(study.reader.model, study.report, plan.T)
        shapes = {path: layer.w.shape for path, layer in study.reader.model.named(Linear)}
    rng = np.random.default_rng(0)
    record["random"] = {path: share(np.linalg.svd(rng.standard_normal(shape), compute_uv=False))
                        for path, shape in shapes.items()}
    record["compared"] = [compare(record["variants"], what, [this], [that])
                          for what, this, that in COMPARED]
    for i, r in enumerate(RANKS):
        sides = {"cut": {"nats": [cut[i] for cut in record["cut"]]},
                 "lora": record["variants"][f"rank {r}, α/√r"]}
        record["compared"].append(compare(sides, f"ΔW cut to rank {r} less adapters of rank {r}",
                                          ["cut"], ["lora"]))
    record["cpu_minutes"] = sum(run["seconds"] for run in record["runs"]) / 60
    write(record, path)
    return record


def tables(record):
    """Two: what was trained, and what can be told apart."""
    models = [["trained", "parameters", "best rate", "nats", "lowest", "highest"]]
    for name, v in record["variants"].items():
        models.append([name, f"{v['parameters']:,}", f"{v['rate']:.2g}", f"{v['mean']:.3f}",
                       f"{v['lowest']:.3f}", f"{v['highest']:.3f}"])
    pairs = [["difference", "nats", "99 %", "verdict"]]
    for c in record["compared"]:
        pairs.append([c["what"], f"{c['mean']:+.4f}", f"± {c['half']:.4f}",
                      "told apart" if c["told_apart"] else "cannot be told apart"])
    return models, pairs


def show(record):
    s = record["settings"]
    models, pairs = tables(record)
    print_table(models, f"{s['steps']} steps; before them {record['before']:.3f} nats a token")
    print_table(pairs, f"{len(s['report'])} fresh seeds")


def draw(record, path):
    """Left: loss against rank. Right: the best rate against rank, for both scales."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4))
    v = record["variants"]
    for names, color, marker, label in ((ROOTS, "#1b4965", "o", "adapters, α/√r"),
                                        (PLAIN, "#c8553d", "s", "adapters, α/r")):
        ranks = [r for r, _ in names.values()]
        left.plot(ranks, [v[name]["mean"] for name in names], marker, ls="-" if names is ROOTS
                  else "none", color=color, label=label, alpha=.8)
        right.plot(ranks, [v[name]["rate"] for name in names], marker + "-", color=color,
                   label=label, alpha=.8)
    left.plot(RANKS, np.mean(record["cut"], axis=0), "^--", color="#6a994e",
              label="full change, cut to r")
    left.axhline(v["the matrices"]["mean"], color="#555555", lw=1, label="full change")
    left.set(xscale="log", xlabel="rank r", ylabel="nats a token",
             title=f"after {record['settings']['steps']} steps")
    right.set(xscale="log", yscale="log", xlabel="rank r", ylabel="best rate",
              title="its rate, on a grid of steps of 1.5")
    right.set_yticks(rates := sorted({v[name]["rate"] for name in (ROOTS | PLAIN)}),
                     [f"{rate:.2g}" for rate in rates])
    right.minorticks_off()
    for axes in (left, right):
        axes.set_xticks(RANKS, map(str, RANKS))
        axes.legend(fontsize=8)
    fig.suptitle("; ".join(f"{c['what']}: {c['mean']:+.3f} ± {c['half']:.3f}"
                           for c in record["compared"][1:4:2]) + " nats", x=.01, ha="left",
                 fontsize=10)
    save(fig, path)


def main():
    command_line("lora", __doc__, Plan(), Plan.tiny(), measure, show, draw)


if __name__ == "__main__":
    main()
