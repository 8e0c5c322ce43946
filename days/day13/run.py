"""Day 13 · The cost of a gradient, forward and in reverse; a network trained by a scalar tape."""

import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad import dual, scalar
from llm.grad.count import Tally, dual_operations, operations
from llm.models import vowels
from llm.models.vowels import LETTERS, VOWELS

CONTEXT, SIZE, HIDDEN, BATCH = 3, 2, 8, 8


@dataclass(frozen=True)
class Result:
    costs: list       # rows: n parameters, operations of f, of dual passes, of the tape
    times: list       # rows: n, dual seconds / plain seconds, tape seconds / plain seconds
    nodes: int        # Values on the tape of the largest network above
    chain: int        # length of a chain of operations walked backward
    corpus: str
    share: float      # share of vowels among what follows
    parameters: int
    steps: int
    network: list     # [nats, share right] on unseen text
    untrained: list
    counting: list    # rows: letters of context, table entries, nats, share right
    letters: list     # [letter, x, y], as learned
    among: float      # mean distance between two vowels
    across: float     # mean distance between a vowel and another letter


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    costs, times = [], []
    for hidden in (1, 2, 4, 8, 16) if fast else (1, 2, 4, 8, 16, 32, 64):
        f, theta = small_network(rng, hidden)
        tally = Tally()
        scalar.gradient(f, [tally.number(p) for p in theta])
        costs.append([len(theta), operations(f, theta), dual_operations(f, theta),
                      tally.operations])
        times.append([len(theta), *time_ratios(f, theta, 1 if hidden > 16 else 3)])
    tape = f([scalar.Value(p) for p in theta])
    chain = 10_000
    x = y = scalar.Value(1.0)
    for _ in range(chain):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    corpus = load_or_default("shakespeare", say)
    size = 60_000 if fast else 600_000
    seen, unseen = (vowels.examples(part[:size], CONTEXT)
                    for part in (corpus.train, corpus.validation))
    unseen = unseen[0][:2000 if fast else 10_000], unseen[1][:2000 if fast else 10_000]
    theta = vowels.initial(rng, CONTEXT, SIZE, HIDDEN)
    before = vowels.evaluate(theta, *unseen, SIZE, HIDDEN)
    steps = 300 if fast else 8000
    with progress(steps, "training") as step:
        vowels.train(theta, *seen, rng, steps, 1.0, SIZE, HIDDEN, BATCH, lambda nats: step())
    counting = [[k, len(LETTERS) ** k, *vowels.counted(seen[0][:, CONTEXT - k:], seen[1],
                                                unseen[0][:, CONTEXT - k:], unseen[1])]
                for k in range(CONTEXT + 1)]
    letters = [[c, theta[2 * i].data, theta[2 * i + 1].data] for i, c in enumerate(LETTERS)]
    return Result(costs, times, len(scalar.order(tape)), chain, corpus.name,
                  float(unseen[1].mean()), len(theta), steps,
                  vowels.evaluate(theta, *unseen, SIZE, HIDDEN), before, counting, letters,
                  *vowels.distances(theta, SIZE))


def small_network(rng, hidden):
    """The loss of a network of 4 inputs and `hidden` units, as a function of its parameters."""
    x = rng.standard_normal(4).tolist()
    theta = rng.standard_normal(hidden * 6 + 1).tolist()
    return lambda t: vowels.loss(vowels.mlp(t, x, hidden), 1), theta


def time_ratios(f, theta, repeats):
    """Seconds of both gradients over those of f, medians of interleaved calls."""
    seconds = []
    for _ in range(repeats):
        row = []
        for call in (f, lambda t: dual.gradient(f, t), lambda t: scalar.gradient(f, t)):
            started = time.perf_counter()
            call(theta)
            row.append(time.perf_counter() - started)
        seconds.append(row)
    plain, forward, reverse = np.median(seconds, axis=0)
    return [float(forward / plain), float(reverse / plain)]


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
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 4.2))
    n, plain, forward, reverse = np.array(result.costs, dtype=float).T
    for values, color, name, offset in ((forward / plain, "#c2571a", "forward: n dual passes", -4),
                                        (reverse / plain, "#1f5fa8", "reverse: one tape", -4)):
        left.loglog(n, values, "o-", ms=3.5, color=color)
        left.annotate(name, (n[1], values[1]), xytext=(9, offset), textcoords="offset points",
                      va="top", color=color)
    left.axhline(5, color="0.5", lw=0.8, ls=":")
    left.text(n[-1], 5.2, "bound: 5", color="0.4", fontsize=8, va="bottom", ha="right")
    left.set(xlabel="parameters n", ylabel="operations for the gradient ÷ operations of f",
             ylim=(1, None))
    left.set_title(f"All {n[-1]:.0f} slopes for {reverse[-1] / plain[-1]:.1f}× the formula,\n"
                   f"not {forward[-1] / plain[-1]:.0f}×")
    for letter, x, y in result.letters:
        vowel = letter in VOWELS
        right.text(x, y, "␣" if letter == " " else letter, ha="center", va="center",
                   color="#c2571a" if vowel else "0.35", weight="bold" if vowel else "normal",
                   fontsize=12 if vowel else 10)
    spread = np.array([point[1:] for point in result.letters])
    right.set(xlim=(spread[:, 0].min() - 0.5, spread[:, 0].max() + 0.5),
              ylim=(spread[:, 1].min() - 0.5, spread[:, 1].max() + 0.5),
              xlabel="first number of a letter", ylabel="second number")
    right.set_title("Learned places: a vowel is on average\n"
                    f"{result.among:.1f} from a vowel, {result.across:.1f} from another letter")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
