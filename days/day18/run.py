"""Day 18 · Plain steps, RMSProp, Adam and AdamW, each at the best of its rates."""

import math
from dataclasses import dataclass

import numpy as np

from days.day18.bowls import KINDS, bowls, updater
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor
from llm.models.neural_ngram import NeuralNGram, draws, log_probabilities, train
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64
COLORS = {"plain steps": "#1f5fa8", "momentum 0.9": "#7b5ea7", "RMSProp": "#2e7d4f",
          "Adam": "#c2571a"}
PLACES = {"plain steps": (0, (0, 7), "center", "bottom"),       # of the labels in the figure
          "momentum 0.9": (2, (0, -7), "center", "top"),
          "RMSProp": (-1, (2, 6), "right", "bottom"), "Adam": (-1, (4, -4), "left", "top")}


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int             # of the language model, in each run
    rates: list            # [kind] the rates tried
    losses: list           # [kind][rate] nats per character on unseen text; None where it exploded
    best_rate: list        # [kind]
    best: list             # [kind] the lowest of its losses
    kinds: list
    within: list           # [kind] how many times the rate may vary for a loss within 0.1 of best
    first_move: float      # of Adam for a gradient of 0.001 at rate 0.1
    condition: float       # largest curvature / smallest, of the bowl
    bowls: list            # rows: kind, "along the axes" | "turned", best rate, curve
    decays: list           # rows: weight decay, training loss, unseen loss, on a small text
    small: int             # characters of that small text


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    seen = tokenizer.encode(corpus.train[:1_000_000])
    unseen = tokenizer.encode(corpus.validation[:4_000 if fast else 30_000])
    steps, small = (100, 5_000) if fast else (500, 10_000)

    def learn(make, rate, ids=seen, steps=steps):
        model = NeuralNGram(tokenizer.vocab_size, CONTEXT, CHANNELS, HIDDEN,
                            np.random.default_rng(seed))
        batches = draws(ids, CONTEXT, BATCH, np.random.default_rng(seed + 1))
        with np.errstate(over="ignore", invalid="ignore"):   # rates too high are part of a sweep
            losses = train(model, batches, rate, steps=steps, update=updater(make, model))
            unseen_loss = -float(log_probabilities(model, unseen).mean())
        return float(np.mean(losses[-50:])), unseen_loss if math.isfinite(unseen_loss) else None

    spread = np.arange(0, 5, 2 if fast else 1) / 2
    rates = [[float(f"{low * 10**x:.1g}") for x in spread]
             for low in (0.03, 0.01, *(3e-4,) * (len(KINDS) - 2))]
    with progress(sum(map(len, rates)), "sweeping rates") as bar:
        losses = []
        for make, tried in zip(KINDS.values(), rates):
            losses.append([])
            for rate in tried:
                losses[-1].append(learn(make, rate)[1])
                bar(1)
    best = [min(x for x in row if x is not None) for row in losses]
    good = [[r for r, x in zip(tried, row) if x is not None and x <= low + 0.1]
            for tried, row, low in zip(rates, losses, best)]
    decays = [[decay, *learn(lambda p, d=decay: AdamW(p, decay=d), 0.003,
                             seen[:small], 3 * steps)] for decay in (0.0, 0.3, 1.0, 3.0)]
    weight = Tensor(np.array([1.0]), requires_grad=True)
    weight.grad = np.array([1e-3])
    AdamW({"w": weight}, decay=0.0).step(0.1)
    condition = 1e4
    return Result(corpus.name, steps, rates, losses,
                  [tried[row.index(low)] for tried, row, low in zip(rates, losses, best)], best,
                  list(KINDS), [max(g) / min(g) for g in good], float(1 - weight.data[0]),
                  condition, bowls(condition, seed), decays, small)


def table(result):
    rows = [["optimizer", "best rate", "nats, unseen", "rates within 0.1 span a factor of"]]
    return rows + [[kind, f"{rate:g}", f"{low:.3f}", f"{span:.0f}"] for kind, rate, low, span in
                   zip(result.kinds, result.best_rate, result.best, result.within)]


def show(result):
    print_table(table(result), f"window model, {result.corpus}, {result.steps} steps each")
    print(f"Adam's first step for a gradient of 0.001 at rate 0.1: {result.first_move:.6f}")
    print_table([["bowl", "optimizer", "best rate", "loss left after 200 steps"], *(
        [name, kind, f"{rate:.2g}", f"{curve[-1]:.1e}"] for kind, name, rate, curve in
        result.bowls)], f"curvatures from 1 to {1 / result.condition:g}")
    print_table([["decay", "training", "unseen"], *(
        [f"{d:g}", f"{a:.3f}", f"{b:.3f}"] for d, a, b in result.decays)],
        f"AdamW on {result.small:,} characters")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2))
    top = max(result.best) + 1
    for kind, rates, losses in zip(result.kinds, result.rates, result.losses):
        if kind not in COLORS:
            continue
        shown = [(r, x) for r, x in zip(rates, losses) if x is not None and x <= top]
        left.semilogx(*zip(*shown), "o-", ms=4, color=COLORS[kind])
        place, offset, ha, va = PLACES[kind]
        left.annotate(kind, shown[min(place, len(shown) - 1)], offset, ha=ha, va=va,
                      textcoords="offset points", color=COLORS[kind])
    plain, ball, adam = (result.best[result.kinds.index(k)]
                         for k in ("plain steps", "momentum 0.9", "Adam"))
    left.set(xlabel="rate", ylabel=f"nats on unseen text after {result.steps} steps")
    left.set_title("A language model: the best rate of Adam gives\n"
                   f"{adam:.2f} nats, of momentum {ball:.2f}, of plain steps {plain:.2f}")
    ends = {}
    for kind, name, _, curve in result.bowls:
        turned = name == "turned"
        if kind == "plain steps" and turned:
            continue                                   # the same curve: plain steps have no axes
        right.semilogy(np.maximum(curve, 1e-14), color=COLORS[kind], lw=1.6,
                       ls=(0, (4, 2)) if turned else "-")
        ends[kind, name] = curve[-1]
    right.set(ylim=(1e-13, 3), xlim=(0, 200), xlabel="step", ylabel="loss / loss at the start")
    right.text(20, 1e-9, "solid: along the axes\ndashed: turned", color="0.4", fontsize=8)
    for y, kind in zip((1e-10, 1e-11, 1e-12), ("plain steps", "RMSProp", "Adam")):
        right.text(20, y, kind, color=COLORS[kind], va="center")
    right.set_title(f"A bowl of condition {result.condition:,.0f}: once it is turned, Adam is\n"
                    f"left with {ends['Adam', 'turned']:.0e}, not "
                    f"{ends['Adam', 'along the axes']:.0e}, of the loss")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
