"""Day 63 · What does the loss look like around a solution, and between two of them?

    python experiments/landscape.py [--fast] [--json] [--out DIR]

Models of day 63's shape are trained by three optimizers at the rates that its study chose. Then:

- rise: how much the loss grows at a distance along random directions. A direction is normal noise
  with each column of a matrix as long as that column of the weights (each vector as a whole), so
  that a network whose weights are all larger does not look flatter. Source: Li et al. (2018),
  *Visualizing the Loss Landscape of Neural Nets*, section 4.
- slice: the loss on a plane of two such directions, for the figure.
- barrier: the largest excess of the loss on the straight line between two models over the line
  between their losses; for two orders of the text from one start, for two starts, and for a model
  with itself, its channels renamed (the same function, other weights).

The loss is that of held-out text. Finished models are kept, a line each, in DIR/landscape.jsonl.
"""

import statistics
import time
from dataclasses import asdict, dataclass, replace

import numpy as np

from days.day63.ledger import Ledger
from days.day63.trial import nats_per_character, one_thread
from days.harness import machine, print_table, progress, save
from experiments import sweep, sweep_run
from experiments.study import command_line


@dataclass(frozen=True)
class Plan:
    """What is trained and looked at."""

    ways: tuple = (("momentum", "momentum", 0.45), ("AdamW", "adamw", 0.004),
                   ("Muon", "muon", 0.02025))
    seeds: tuple = (10, 11, 12)
    distances: tuple = (0.1, 0.2, 0.3, 0.45, 0.7)
    directions: int = 8
    side: int = 15                       # points of the slice a side
    reach: float = 0.7                   # of the slice
    between: int = 11                    # points of a line, its ends among them
    base: tuple = (("held_out", 4000),)

    @classmethod
    def small(cls):
        return cls(ways=cls.ways[1:2], seeds=(10, 11), distances=(0.3,), directions=2, side=3,
                   between=3, base=(("steps", 3), ("warmup", 1), ("characters", 20_000),
                                    ("held_out", 300)))


def direction(weights, rng):
    """{name: noise} with the lengths of the weights' columns, or of a whole vector."""
    made = {}
    for name, w in weights.items():
        noise = rng.normal(size=w.shape)
        axis = 0 if w.ndim == 2 else None
        length = np.linalg.norm(noise, axis=axis, keepdims=w.ndim == 2)
        made[name] = noise * np.linalg.norm(w, axis=axis, keepdims=w.ndim == 2) / length
    return made


def renamed(weights, L, rng):
    """The same function with the hidden channels of each feed-forward in another order."""
    other = dict(weights)
    for i in range(L):
        name = f"blocks.{i}.think.inner."
        order = rng.permutation(weights[name + "up.w"].shape[1])
        other[name + "up.w"] = weights[name + "up.w"][:, order]
        other[name + "up.b"] = weights[name + "up.b"][order]
        other[name + "down.w"] = weights[name + "down.w"][order]
    return other


class Landscape:
    """The loss of one architecture on a held-out piece, as a function of its weights."""

    def __init__(self, model, piece, T):
        self.model, self.piece, self.T = model, piece, T
        self.parameters = model.named_parameters()

    def weights(self):
        return {name: p.data.astype(np.float64) for name, p in self.parameters.items()}

    def at(self, weights, *steps):
        """The loss at weights + Σ a·d over the pairs (a, d) in steps."""
        for name, p in self.parameters.items():
            p.data[...] = weights[name] + sum(a * d[name] for a, d in steps)
        return nats_per_character(self.model, *self.piece, self.T)

    def barrier(self, a, b, points):
        """[loss on the line from a to b], and its largest excess over the straight line."""
        line = [self.at({name: (1 - t) * a[name] + t * b[name] for name in a})
                for t in np.linspace(0, 1, points)]
        straight = np.linspace(line[0], line[-1], points)
        return line, float(np.max(np.array(line) - straight))


def trained(recipe, rate, start, order):
    """(Landscape on the reporting half, weights) of a new model."""
    model, texts, _, _ = sweep_run.train(recipe, rate, start, order)
    place = Landscape(model, texts.pieces["report"], recipe.T)
    return place, place.weights()


def one(plan, recipe, rate, seed):
    """Everything about one seed of one optimizer."""
    rng = np.random.default_rng([seed, 7])
    place, w = trained(recipe, rate, seed, seed)
    _, reordered = trained(recipe, rate, seed, seed + 100)
    _, restarted = trained(recipe, rate, seed + 100, seed)
    bottom = place.at(w)
    two = [direction(w, rng) for _ in range(max(plan.directions, 2))]
    rise = [[place.at(w, (r, d)) - bottom for d in two[:plan.directions]] for r in plan.distances]
    found = {"bottom": bottom, "rise": rise}
    for name, other in (("another order", reordered), ("another start", restarted),
                        ("itself, renamed", renamed(w, recipe.L, rng))):
        found[name] = place.barrier(w, other, plan.between)
    if seed == plan.seeds[0]:
        places = np.linspace(-plan.reach, plan.reach, plan.side)
        found["slice"] = [[place.at(w, (x, two[0]), (y, two[1])) for x in places] for y in places]
    return found


def measure(plan, path):
    """Every seed that is not kept yet; returns the record."""
    ledger = Ledger(path.with_suffix(".jsonl"))
    record = {"plan": asdict(plan), "machine": machine(), "ways": {}}
    with progress(len(plan.ways) * len(plan.seeds), "models") as tick:
        for name, optimizer, rate in plan.ways:
            change, runs = {**dict(plan.base), "optimizer": optimizer}, []
            for seed in plan.seeds:
                task = {"variant": name, "change": change, "rate": rate, "start": seed,
                        "order": seed}
                if (found := ledger.runs.get(sweep.key(task))) is None:
                    began = time.process_time()
                    with one_thread(), np.errstate(over="ignore", invalid="ignore"):
                        found = {**task, **one(plan, replace(sweep_run.Wider(), **change), rate,
                                               seed)}
                    found["seconds"] = round(time.process_time() - began, 1)
                    ledger.append(found)
                runs.append(found)
                tick(1, f"{name}, seed {seed}")
            record["ways"][name] = summary(plan, runs)
    sweep.write(record, path)
    if sweep.committed(path, "landscape"):
        write_note(record)
    return record


def write_note(record):
    head, *rows = table(record)
    turned = [["", *(row[0] for row in rows)],
              *([what, *(row[i] for row in rows)] for i, what in enumerate(head) if i)]
    sweep.put("landscape", turned, f"{len(record['plan']['seeds'])} seeds each; mean ± standard "
              "deviation, nats a character of held-out text.")


def summary(plan, runs):
    """Means over seeds, and their spread: of the rise at each distance, and of each barrier."""
    def spread(values):
        return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "seeds": values}
    return {"bottom": spread([run["bottom"] for run in runs]),
            "rise": [spread([statistics.mean(run["rise"][i]) for run in runs])
                     for i in range(len(plan.distances))],
            "lines": {kind: runs[0][kind][0] for kind in KINDS},
            "barrier": {kind: spread([run[kind][1] for run in runs]) for kind in KINDS},
            "slice": runs[0].get("slice")}


KINDS = "another order", "another start", "itself, renamed"


def table(record):
    """Rows of text: an optimizer each."""
    distances = record["plan"]["distances"]
    rows = [["optimizer", "nats", *(f"rise at {d:g}" for d in distances),
             *(f"barrier to {kind}" for kind in KINDS)]]
    for name, way in record["ways"].items():
        cells = [way["bottom"], *way["rise"], *(way["barrier"][kind] for kind in KINDS)]
        rows.append([name, *(f"{c['mean']:.3f} ± {c['sd']:.3f}" for c in cells)])
    return rows


def show(record):
    head, *rows = table(record)
    print_table([["", *(row[0] for row in rows)],
                 *([what, *(row[i] for row in rows)] for i, what in enumerate(head) if i)],
                f"mean ± sd of {len(record['plan']['seeds'])} seeds")


def draw(record, path):
    """Slices around the solutions of the first seed, and the loss on lines between models."""
    import matplotlib.pyplot as plt
    plan, ways = record["plan"], record["ways"]
    fig, axes = plt.subplots(1, len(ways) + 1, figsize=(3.1 * (len(ways) + 1), 3.5))
    places = np.linspace(-plan["reach"], plan["reach"], plan["side"])
    for axis, (name, way) in zip(axes, ways.items()):
        z = np.array(way["slice"]) - way["slice"][plan["side"] // 2][plan["side"] // 2]
        lines = axis.contour(places, places, z, levels=[.05, .1, .2, .4, .8], cmap="viridis")
        axis.clabel(lines, fontsize=7)
        axis.plot(0, 0, "+", color="#222222")
        axis.set(title=f"{name}: rise of the loss", xlabel="first direction", aspect="equal")
        axis.title.set_fontsize(9)
    axes[0].set_ylabel("second direction")
    for color, (name, way) in zip(("#7b5ea7", "#1f5fa8", "#2e7d4f"), ways.items()):
        for style, kind in zip(("-", "--", ":"), KINDS):
            axes[-1].plot(np.linspace(0, 1, plan["between"]), way["lines"][kind], style,
                          color=color, label=f"{name}, {kind}")
    axes[-1].set(title="straight lines between models", xlabel="from one model to the other",
                 ylabel="nats a character")
    axes[-1].title.set_fontsize(9)
    fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=5,
               fontsize=7.5, frameon=False)
    fig.suptitle("A random direction is a slope without a wall; the straight line to another "
                 "solution crosses one", x=.01, ha="left", fontsize=10)
    save(fig, path)


if __name__ == "__main__":
    command_line("landscape", __doc__, Plan(), Plan.small(), measure, show, draw)
