"""Day 13 · The cost of a gradient, forward and in reverse; a network trained by a scalar tape."""

from dataclasses import dataclass

import numpy as np

from days.day13 import task
from days.day13.cost import small_network, time_ratio
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad import scalar
from llm.grad.count import Tally, dual_operations, operations
from llm.models import vowels
from llm.models.vowels import LETTERS, VOWELS


@dataclass(frozen=True)
class Result:
    costs: list       # rows: n parameters, operations of f, of dual passes, of the tape
    times: list       # rows: n, seconds of the tape's gradient / of the formula on floats
    nodes: int        # Values on the tape of the largest network above
    chain: int        # length of a chain of operations walked backward
    corpus: str
    share: float      # share of vowels among what follows
    parameters: int
    steps: int
    network: list     # [nats, share right] on unseen text
    untrained: list
    counting: list    # rows: letters of context, table entries, nats, share right
    examples: list    # how many examples the tables counted, how many the network drew
    few: list         # nats of the tables from as many examples as the network drew
    letters: list     # [letter, x, y], as learned
    among: float      # mean distance between two vowels
    across: float     # mean distance between a vowel and another letter
    before: list      # both before training
    closer: int       # sets of five letters that end closer together than the vowels
    alike: float      # rank correlation of distance and of how differently vowels follow
    chance: list      # how many shuffles correlate as well, of how many


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    costs, times = [], []
    for hidden in (1, 2, 4, 8, 16) if fast else (1, 2, 4, 8, 16, 32, 64):
        f, theta = small_network(rng, hidden)
        tally = Tally()
        scalar.gradient(f, [tally.number(p) for p in theta])
        costs.append([len(theta), operations(f, theta), dual_operations(f, theta),
                      tally.operations])
        times.append([len(theta), time_ratio(f, theta, 5 if fast else 40)])
    tape = f([scalar.Value(p) for p in theta])
    chain = 10_000
    x = y = scalar.Value(1.0)
    for _ in range(chain):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    corpus = load_or_default("shakespeare", say)
    seen, unseen = task.data(corpus, *(60_000, 2000) if fast else (task.SEEN, task.UNSEEN))
    steps = 300 if fast else task.STEPS
    with progress(steps, "training") as step:
        theta, untrained, network, before = task.trained(rng, seen, unseen, steps, step)
    counting = [[k, len(LETTERS) ** k, *task.counted(seen, unseen, k)] for k in range(4)]
    rows = rng.integers(len(seen[1]), size=steps * task.BATCH)
    few = [task.counted((seen[0][rows], seen[1][rows]), unseen, k)[0] for k in range(4)]
    p, shuffles = task.vowel_after(seen), 100 if fast else 1000
    letters = [[c, x, y] for c, (x, y) in zip(LETTERS, task.places(theta).tolist())]
    return Result(costs, times, len(scalar.order(tape)), chain, corpus.name,
                  float(unseen[1].mean()), len(theta), steps, network, untrained, counting,
                  [len(seen[1]), len(rows)], few, letters, *vowels.distances(theta, task.SIZE),
                  before, task.closer_sets(theta), task.like_distance(theta, p),
                  [task.shuffled(theta, p, rng, shuffles), shuffles])


def table(result):
    rows = [["parameters n", "operations of f", "n dual passes", "tape", "dual ÷ f", "tape ÷ f"]]
    for n, plain, forward, reverse in result.costs:
        rows.append([n, plain, f"{forward:,}", f"{reverse:,}", f"{forward / plain:.1f}",
                     f"{reverse / plain:.2f}"])
    return rows


def show(result):
    print_table(table(result), "operations for the gradient of a network's loss")
    print(f"Chain of {result.chain:,} operations: walked backward without recursion.")
    rows = [["does a vowel follow?", "numbers", "nats", "right"]]
    rows += [[f"counted, {k} letters of context", entries, f"{nats:.4f}", f"{right:.1%}"]
             for k, entries, nats, right in result.counting]
    rows += [[name, result.parameters, f"{nats:.4f}", f"{right:.1%}"] for name, (nats, right) in
             (("network, untrained", result.untrained), ("network, 3 letters", result.network))]
    print_table(rows, f"unseen text of {result.corpus}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), width_ratios=(1, 1.35))
    n, plain, forward, reverse = np.array(result.costs, dtype=float).T
    for values, color, name in ((forward / plain, "#c2571a", "forward: n dual passes"),
                                (reverse / plain, "#1f5fa8", "reverse: one tape")):
        left.loglog(n, values, "o-", ms=3.5, color=color)
        left.annotate(name, (n[1], values[1]), xytext=(9, -4), textcoords="offset points",
                      va="top", color=color)
    left.axhline(5, color="0.5", lw=0.8, ls=":")
    left.text(n[-1], 5.2, "bound: 5", color="0.4", fontsize=8, va="bottom", ha="right")
    left.set(xlabel="parameters n", ylabel="operations for the gradient ÷ operations of f",
             ylim=(1, None), xticks=(10, 100), xticklabels=("10", "100"),
             yticks=(1, 10, 100, 1000), yticklabels=("1", "10", "100", "1,000"))
    left.set_title(f"All {n[-1]:.0f} slopes for {reverse[-1] / plain[-1]:.1f}× the formula,\n"
                   f"not {forward[-1] / plain[-1]:.0f}×")
    spots = np.array([point[1:] for point in result.letters])
    for (letter, *_), spot, shown in zip(result.letters, spots, apart(spots)):
        vowel = letter in VOWELS
        color = "#c2571a" if vowel else "0.35"
        right.plot(*zip(spot, shown), color=color, lw=0.5)
        right.text(*shown, "space" if letter == " " else letter, ha="center", va="center",
                   color=color, weight="bold" if vowel else "normal", fontsize=11 if vowel else 10)
    right.set(xlim=(spots[:, 0].min() - 0.5, spots[:, 0].max() + 0.5),
              ylim=(spots[:, 1].min() - 0.5, spots[:, 1].max() + 0.5),
              xlabel="first number of a letter", ylabel="second number")
    right.set_title(f"Learned places: two vowels are {result.among:.1f} apart, a vowel and\n"
                    f"another letter {result.across:.1f} (untrained: {result.before[0]:.1f} "
                    f"and {result.before[1]:.1f})")
    save(fig, path)


def apart(spots, gap=0.27):
    """The spots, pushed away from each other until two letters can be read side by side."""
    shown = spots.copy()
    for _ in range(200):
        way = shown[:, None] - shown                                # (27, 27, 2)
        far = np.linalg.norm(way, axis=-1, keepdims=True)
        push = np.where((far > 0) & (far < gap), way / np.maximum(far, 1e-9) * (gap - far) / 3, 0)
        shown += push.sum(axis=1)
    return shown


if __name__ == "__main__":
    main(__file__, measure, show, draw)
