"""Day 30 · What four kinds of position are worth, and what each does past the trained length."""

import textwrap
from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, loss_by_place, train
from days.day30.paths import loss_by_way, loss_without
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.heads import NO_RULE
from llm.layers.positions import ALiBi, LearnedPositions, SinusoidalPositions
from llm.tokens.chars import CharTokenizer

C, H, T, B, LONG = 64, 8, 32, 32, 128
LARGE = "sinusoidal, large tokens"          # which start at N(0, 1), not at N(0, 0.02²)
NAMES = ("none", "learned", "sinusoidal", "ALiBi", LARGE)
COLORS = {"none": "#777777", "learned": "#c8553d", "sinusoidal": "#e09f3e", "ALiBi": "#1b4965",
          LARGE: "#9c6b17"}
RATES = {"none": 1e-2, "learned": 1.5e-2, "sinusoidal": 2.2e-2, "ALiBi": 2.2e-2, LARGE: 2.2e-2}
SEEDS = 3
SPANS = {"nothing": (0, 0), "places 0 … 31": (0, 32), "places 32 … 63": (32, 64)}   # hidden keys


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    trained: int      # T, the length in training
    rates: dict       # name → the best rate of experiments/positions.py
    rows: list        # [name, parameters, nats at places 16 … 31, 32 … 63, 64 … 127 or None], mean
    seeds: dict       # name → the same three numbers of each seed
    curves: dict      # name → [nats in each group of 4 places], mean over seeds
    ways: dict        # way → nats at 16 … 31 of windows of T whose sinusoids enter by this way as
    #                   if the window began at LONG − T, by seed
    hidden: dict      # hidden keys → nats at 64 … 127 of sinusoids, by seed
    refusal: str      # what the learned positions say to one token more


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.train)
    unseen = np.array_split(tokenizer.encode(corpus.validation), 2)[1]  # rates: on the other half
    steps, n, count = (50, 256, 1) if fast else (300, 1024, SEEDS)
    rows, seeds, curves, ways, hidden, refusal = [], {}, {}, {}, {}, ""
    with kernels(), progress(len(NAMES) * count * steps, "training") as advance:
        for name in NAMES:
            losses = []
            for i in range(count):
                model = make(name, tokenizer.vocab_size, ids, steps, RATES[name], seed + i, advance)
                try:
                    losses.append(loss_by_place(model, unseen, LONG, n))
                except ValueError as error:
                    refusal = str(error)
                    losses.append(loss_by_place(model, unseen, T, n))
                if name == "sinusoidal":
                    for way, nats in loss_by_way(model, unseen, T, LONG - T, n // 2).items():
                        ways.setdefault(way, []).append(nats)
                    for keys, span in SPANS.items():
                        hidden.setdefault(keys, []).append(
                            loss_without(model, unseen, LONG, n // 2, *span, 2 * T))
            extra = model.positions.count_parameters() if name == "learned" else 0
            seeds[name] = [parts(loss) for loss in losses]
            loss = np.mean(losses, axis=0)
            rows.append([name, extra, *parts(loss)])
            curves[name] = loss.reshape(-1, 4).mean(axis=1).tolist()
    return Result(corpus.name, steps, T, RATES, rows, seeds, curves, ways, hidden,
                  refusal)


def make(name, V, ids, steps, rate, seed, advance):
    """A trained model with this kind of positions."""
    rng = np.random.default_rng(seed)
    positions, rule = kind(name, rng)
    model = AttentionLM(V, C, H, 1, rng, positions, rule)
    model.embed.table.data *= 50 if name == LARGE else 1
    return train(model, ids, steps, B, T, rng, advance, rate=rate)


def parts(loss):
    """Mean nats at places T/2 … T − 1, T … 2T − 1 and 2T … , None where there are none."""
    return [float(x.mean()) if x.size else None for x in (loss[T // 2:T], loss[T:2 * T],
                                                          loss[2 * T:])]


def kind(name, rng):
    """(module that adds positions, rule inside attention) by name."""
    return {"none": (None, NO_RULE), "learned": (LearnedPositions(T, C, rng), NO_RULE),
            "sinusoidal": (SinusoidalPositions(), NO_RULE), "ALiBi": (None, ALiBi(H)),
            LARGE: (SinusoidalPositions(), NO_RULE)}[name]


def table(result):
    T = result.trained
    head = ["positions", "parameters", f"nats at {T // 2} … {T - 1}", f"{T} … {2 * T - 1}",
            f"{2 * T} … {LONG - 1}"]
    return [head] + [[name, extra, *("refuses" if x is None else f"{x:.3f}" for x in losses)]
                     for name, extra, *losses in result.rows]


def show(result):
    print_table(table(result), f"trained {result.steps} steps on {result.trained} characters, "
                f"{result.corpus}; mean of {len(result.seeds['none'])} seeds")
    print_table([["positions", "rate", "each seed", "", ""]] + [
        [name, f"{result.rates[name]:g}", *(" ".join("-" if x is None else f"{x:.3f}" for x in part)
                                            for part in zip(*losses))]
        for name, losses in result.seeds.items()])
    for title, found in (("sinusoids as if the window began late, by", result.ways),
                         ("long windows, hidden keys", result.hidden)):
        print_table([[title, "each seed"]] + [
            [name, " ".join(f"{x:.3f}" for x in nats)] for name, nats in found.items()])
    print(textwrap.fill(f"learned, past its end: {result.refusal}", 80))


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    T, rows = result.trained, {row[0]: row for row in result.rows}
    for name, curve in result.curves.items():
        places = np.arange(len(curve)) * 4 + 1.5
        ax.plot(places, curve, color=COLORS[name], lw=1.8)
        end = (places[-1] + 3, curve[-1])
        said = "learned, ends here" if name == "learned" else name.replace(", ", ",\n")
        if name == "learned":
            end = (end[0], curve[-1] + 0.07)                # clear of the curves that go on
        ax.annotate(said, end, color=COLORS[name], va="center")
    ax.axvline(T - 0.5, color="#bbbbbb", lw=1)
    top = ax.get_ylim()[1]
    ax.text(T + 1, top, "never trained from here on →", color="#777777", va="top", fontsize=9)
    ax.set(xlabel="place of the character in its window", ylabel="nats of the next character",
           xlim=(0, LONG * 1.2), xticks=range(0, LONG + 1, 32))
    change = {name: rows[name][-1] - rows[name][2] for name in ("sinusoidal", "ALiBi")}
    ax.set_title(f"Trained on {T} characters, read on {LONG}: the loss of sinusoids changes by "
                 f"{change['sinusoidal']:+.2f}\nnats, that of ALiBi by {change['ALiBi']:+.2f}, "
                 "and learned positions end")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
