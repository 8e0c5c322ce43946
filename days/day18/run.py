"""Day 18 · Six optimizers on one model, each at the best of its rates, and on bowls that turn."""

import statistics
from dataclasses import dataclass

import numpy as np

from days.day18.bowls import bowls
from days.day18.race import COMPARED, KINDS, Texts, compare, race
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW

COLORS = {"plain steps": "#1f5fa8", "momentum 0.9": "#7b5ea7", "RMSProp": "#c9a227",
          "Adam": "#c2571a", "Muon": "#2e7d4f"}


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int             # of the language model, in each run
    choose: int            # seeds on the grid of rates
    report: int            # fresh seeds at the best rate
    race: dict             # {kind: its best rate, its grid, its nats on the second piece, …}
    compared: list         # rows: what, difference in nats, half of its 99 % interval, told apart?
    small: int             # characters of the small text
    small_steps: int
    decays: dict           # {weight decay: the same as in race} on the small text
    decays_apart: list     # as `compared`, for decay 1 less 0
    first_move: float      # of Adam for a gradient of 0.001 at rate 0.1
    condition: float       # largest curvature / smallest, of the bowls
    bowl_steps: int
    bowls: list            # rows: kind, "along" | "turned" | "own", best rates, all inside?, what
                           # is left of the loss for each seed, the first's curve each 5th step


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    size, half = 2_000 if fast else 20_000, len(corpus.validation) // 2
    unseen = [tokenizer.encode(corpus.validation[i:i + size]) for i in (0, half)]
    seen = tokenizer.encode(corpus.train[:1_000_000])
    steps, small, small_steps = (20, 2_000, 20) if fast else (350, 5_000, 500)
    choose, report = ([seed], [seed + 10, seed + 11]) if fast else (
        range(seed, seed + 3), range(seed + 10, seed + 15))
    grow = 1 if fast else 6
    with progress((len(KINDS) + 3) * (4 * len(choose) + len(report)), "racing") as tick:
        texts = Texts(tokenizer.vocab_size, seen, *unseen)
        rows = {kind: race(texts, make, first[:2] if fast else first, steps, choose, report, tick,
                           grow) for kind, (make, first) in KINDS.items()}
        texts = Texts(tokenizer.vocab_size, seen[:small], *unseen)
        decays = {f"{decay:g}": race(texts, lambda p, d=decay: AdamW(p, decay=d),
                                     (0.002,) if fast else (0.002, 0.003, 0.0045), small_steps,
                                     choose, report, tick, grow) for decay in (0.0, 1.0, 3.0)}
    condition, bowl_steps = 1e4, 40 if fast else 150
    runs = [bowls(condition, s, bowl_steps, fast) for s in list(choose)]
    return Result(
        corpus.name, steps, len(choose), len(report), rows,
        [compare(rows, *two) for two in COMPARED], small, small_steps, decays,
        compare(decays, "1", "0"), first_move(), condition, bowl_steps,
        [[kind, name, [r[2] for r in same], all(r[3] for r in same), [r[4] for r in same],
          same[0][5]] for same in zip(*runs) for kind, name in (same[0][:2],)])


def first_move():
    """What Adam's first step is for a gradient of 0.001."""
    weight = Tensor(np.array([1.0]), requires_grad=True)
    weight.grad = np.array([1e-3])
    AdamW({"w": weight}, decay=0.0).step(0.1)
    return float(1 - weight.data[0])


def table(result):
    rows = [["optimizer", "best rate", "nats, unseen", "spread over seeds"]]
    return rows + [[kind, f"{r['rate']:g}" + ("" if r["inside"] else ", at the edge"),
                    f"{r['mean']:.3f}", f"{r['spread']:.3f}"] for kind, r in result.race.items()]


def show(result):
    print_table(table(result), f"window model, {result.corpus}, {result.steps} steps each")
    print_table([["difference", "nats", "99 %", "verdict"], *(
        [what, f"{mean:+.3f}", f"± {half:.3f}", "told apart" if apart else "cannot be told apart"]
        for what, mean, half, apart in [*result.compared, result.decays_apart])])
    print_table([["bowl", "optimizer", "best rate", "loss left, median", "lowest", "highest"], *(
        [name, kind, f"{statistics.median(rates):.2g}" + ("" if inside else ", at the edge"),
         f"{statistics.median(left):.1e}", f"{min(left):.1e}", f"{max(left):.1e}"]
        for kind, name, rates, inside, left, _ in result.bowls)],
        f"curvatures from 1 to {1 / result.condition:g}, {result.bowl_steps} steps")
    print_table([["decay", "best rate", "training", "unseen", "spread"], *(
        [d, f"{r['rate']:g}", f"{r['seen']:.3f}", f"{r['mean']:.3f}", f"{r['spread']:.3f}"]
        for d, r in result.decays.items())], f"AdamW on {result.small:,} characters")
    print(f"Adam's first step for a gradient of 0.001 at rate 0.1: {result.first_move:.6f}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.4))
    for kind, r in result.race.items():
        if kind in COLORS:
            grid = [(rate / r["rate"], x) for rate, x in r["grid"] if x is not None]
            left.plot(*zip(*grid), "o-", ms=4, color=COLORS[kind],
                      label=f"{kind}, best at {r['rate']:g}")
    ticks = [round(1.5**k, 2) for k in range(-2, 3)]
    left.set_xscale("log")
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.minorticks_off()
    left.legend(fontsize=8)
    left.set(xlabel="rate / the best rate",
             ylabel=f"nats, first unseen piece, after {result.steps} steps")
    nats = {kind: r["mean"] for kind, r in result.race.items()}
    left.set_title("A language model, each optimizer at its best rate:\n"
                   f"plain {nats['plain steps']:.2f}, Adam {nats['Adam']:.2f}, "
                   f"Muon {nats['Muon']:.2f} nats on the second piece", fontsize=10)
    ends = {}
    for kind, name, _, _, losses, curve in result.bowls:
        ends[kind, name] = statistics.median(losses)
        if kind in ("plain steps", "Adam", "Muon") and name != "own":
            right.semilogy(5 * np.arange(len(curve)), np.maximum(curve, 1e-16), lw=1.6,
                           color=COLORS[kind], ls="-" if name == "along" else (0, (4, 2)),
                           label=f"{kind}, {name}")
    right.legend(fontsize=8)
    right.set(xlim=(0, result.bowl_steps), xlabel="step", ylabel="loss / loss at the start")
    right.set_title(f"Bowls of condition {result.condition:,.0f}: turned, Adam is left with\n"
                    f"{ends['Adam', 'turned']:.0e} and not {ends['Adam', 'along']:.0e}; "
                    f"Muon with {ends['Muon', 'turned']:.0e} and {ends['Muon', 'along']:.0e}",
                    fontsize=10)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
