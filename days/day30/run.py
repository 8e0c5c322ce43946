"""Day 30 · What four kinds of position are worth, and what each does past the trained length."""

import textwrap
from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, loss_by_place, train
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


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    trained: int      # T, the length in training
    rows: list        # [name, parameters, nats at places 16 … 31, 32 … 63, 64 … 127 or None]
    curves: dict      # name → [nats in each group of 4 places]
    refusal: str      # what the learned positions say to one token more


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    steps, n = (50, 256) if fast else (500, 1024)
    rows, curves, refusal = [], {}, ""
    with kernels(), progress(len(NAMES) * steps, "training") as advance:
        for name in NAMES:
            rng = np.random.default_rng(seed)
            positions, rule = kind(name, rng)
            model = AttentionLM(tokenizer.vocab_size, C, H, 1, rng, positions, rule)
            model.embed.table.data *= 50 if name == LARGE else 1
            train(model, ids, steps, B, T, rng, advance, rate=1e-2)
            try:
                loss = loss_by_place(model, unseen, LONG, n)
            except ValueError as error:
                refusal, loss = str(error), loss_by_place(model, unseen, T, n)
            extra = positions.count_parameters() if positions else 0
            parts = [loss[i:j] for i, j in ((T // 2, T), (T, 2 * T), (2 * T, LONG))]
            rows.append([name, extra, *(float(p.mean()) if p.size else None for p in parts)])
            curves[name] = loss.reshape(-1, 4).mean(axis=1).tolist()
    return Result(corpus.name, steps, T, rows, curves, refusal)


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
                f"{result.corpus}")
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
        ax.annotate(said, end, color=COLORS[name], va="center")
    ax.axvline(T - 0.5, color="#bbbbbb", lw=1)
    top = ax.get_ylim()[1]
    ax.text(T + 1, top, "never trained from here on →", color="#777777", va="top", fontsize=9)
    ax.set(xlabel="place of the character in its window", ylabel="nats of the next character",
           xlim=(0, LONG * 1.2), xticks=range(0, LONG + 1, 32))
    change = {name: rows[name][-1] - rows[name][2] for name in ("sinusoidal", "ALiBi")}
    ax.set_title(f"From {T} to {LONG} characters: sinusoids {change['sinusoidal']:+.2f} nats, "
                 f"ALiBi {change['ALiBi']:+.2f},\nand learned positions have nothing to say")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
