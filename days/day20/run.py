"""Day 20 · How large should random weights be? Fifty layers, three activations, half precision."""

import math
from dataclasses import dataclass

import numpy as np

from days.day20 import depth
from days.day20.training import Trainer, best_of
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.layers.init import forecast, keep
from llm.tokens.chars import CharTokenizer

KINDS = {"ReLU": depth.RELU, "tanh": depth.TANH, "GELU": depth.GELU}
GAINS = {"ReLU": (1.0, math.sqrt(2), 2.0), "tanh": (1.0, 1.18, 5 / 3),
         "GELU": (math.sqrt(2), keep(depth.GELU), 2.0)}
COLORS = ["#1f5a99", "#222222", "#c2571a"]
STREAMS = {"plain": (False, False), "last matrix / √(2L)": (True, False),
           "norm before each branch": (False, True), "both": (True, True)}


@dataclass(frozen=True)
class Result:
    corpus: str
    layers: int
    width: int
    nets: int             # networks that each measured size is the median of
    sizes: list           # rows: activation, gain, last size, forecast, first gradient, forecast
    curves: dict          # "activation gain" → [sizes by layer, gradients by layer, both forecast]
    scatter: list         # rows: width, nets, std of ln q, √(5L/width), median q, forecast, dead
    rotations: list       # rows, with orthogonal matrices: width, std of ln q, √(3L/width), dead
    blocks: int
    streams: list         # rows: name, size of the stream after the blocks, forecast
    halves: list          # rows: activation, gain, first layer with ∞, last size, gradients gone
    trained: int          # layers of the model that is trained
    steps: int
    seeds: int
    rates: list
    learned: list         # rows: gain, best rate, nats, spread over seeds, at the edge of rates?
    frequencies: float    # nats, unseen, of a model that knows how frequent each character is
    reach: list           # rows: gain, forecast sizes: last signal, first gradient


def measure(fast, seed):
    layers, width, rows, nets = (10, 32, 8, 2) if fast else (50, 256, 32, 5)
    streams = lambda n: [np.random.default_rng([seed, n, i]) for i in range(nets)]
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    trained, steps, seeds = (4, 20, 1) if fast else (12, 400, 3)
    gains, rates = ([1.0, 2.0], [0.003]) if fast else ([0.5, 1.0, 1.18, 5 / 3, 2.5],
                                                       [0.001, 0.0015, 0.0022, 0.0033])
    trainer = Trainer(tokenizer.vocab_size, tokenizer.encode(corpus.train[:1_000_000]),
                      tokenizer.encode(corpus.validation[:3_000 if fast else 20_000]), trained,
                      steps)
    sizes, curves, learned = [], {}, []
    with progress(sum(map(len, GAINS.values())) + 6 + len(gains) * len(rates), "measuring") as bar:
        for kind, activation in KINDS.items():
            for n, gain in enumerate(GAINS[kind]):
                x, d = depth.middle(activation, gain, layers, width, rows, streams(n))
                fx, fd = (np.sqrt(q).tolist() for q in forecast(activation, gain, layers))
                sizes.append([kind, gain, x[-1], fx[-1], d[0], fd[0]])
                curves[f"{kind} {gain:.2f}"] = [digits(c) for c in (x, d, fx, fd)]
                bar(1)
        scatter, rotations = [], []
        for n, (wide, many) in enumerate([(8, 10)] if fast else [(16, 200), (64, 200), (256, 60)]):
            ln = depth.scatter(wide, layers, many, np.random.default_rng([seed, 7, n]))
            std, dead = spread(ln)
            scatter.append([wide, many, std, math.sqrt(5 * layers / wide),
                            math.exp(np.median(ln)), math.exp(-2.5 * layers / wide), dead])
            if wide < 256:
                ln = depth.scatter(wide, layers, many, np.random.default_rng([seed, 8, n]),
                                   depth.turned)
                std, dead = spread(ln)
                rotations.append([wide, std, math.sqrt(3 * layers / wide), dead])
            bar(1)
        blocks = 4 if fast else 12
        stream = [[name, depth.branches(width, blocks, rows, *flags,
                                        np.random.default_rng([seed, 9]))[-1],
                   stream_forecast(blocks, *flags)] for name, flags in STREAMS.items()]
        bar(1)
        halves = [[kind, gain, *depth.half(KINDS[kind], gain, layers, width, rows,
                                           np.random.default_rng([seed, 10]))]
                  for kind, gain in (("ReLU", 1.0), ("ReLU", math.sqrt(2)), ("ReLU", 2.0),
                                     ("tanh", 1.0), ("tanh", 5 / 3))]
        bar(2 if not fast else 4)
        for gain in gains:
            found = {}
            for rate in rates:
                found[rate] = [trainer.nats(gain, rate, seed + i) for i in range(seeds)]
                bar(1)
            learned.append([gain, *best_of(found, rates)])
    counts = np.bincount(trainer.seen, minlength=tokenizer.vocab_size) + 1.0
    frequencies = -float(np.log(counts / counts.sum())[trainer.unseen].mean())
    reach = [[gain, *(float(np.sqrt(q)) for q in ends(forecast(depth.TANH, gain, trained)))]
             for gain in gains]
    return Result(corpus.name, layers, width, nets, sizes, curves, scatter, rotations, blocks,
                  stream, halves, trained, steps, seeds, rates, learned, frequencies, reach)


def spread(ln):
    """(standard deviation of ln q over the networks that live, how many are dead: ln q is −∞)."""
    alive = ln[np.isfinite(ln)]
    return float(alive.std(ddof=1)) if len(alive) > 1 else 0.0, len(ln) - len(alive)


def ends(pair):
    """The signals' mean square at the end, the gradients' at the start."""
    forward, backward = pair
    return forward[-1], backward[0]


def stream_forecast(blocks, scaled, normed):
    """Root mean square of a stream that starts at 1, after 2·blocks branches.

    A branch has the mean square of what it is given, which is 1 after a norm; scaled, 1/(2·blocks)
    of that.
    """
    n = 2 * blocks
    each = 1 / n if scaled else 1.0
    return math.sqrt(1 + n * each) if normed else (1 + each) ** (n / 2)


def digits(curve):
    """Curves to four digits: they are for the figure only."""
    return [float(f"{x:.4g}") for x in curve]


def table(result):
    rows = [["activation, gain", "last signal", "forecast", "first gradient", "forecast"]]
    return rows + [[f"{kind} {gain:.2f}", *(f"{x:.2g}" for x in row)]
                   for kind, gain, *row in result.sizes]


def show(result):
    print_table(table(result), f"{result.layers} layers of {result.width}, sizes as root mean "
                               "squares; 1 goes in")
    print_table([["width", "nets", "std of ln q", "forecast", "median q", "forecast", "dead"], *(
        [w, n, *(f"{x:.2g}" for x in row), dead] for w, n, *row, dead in result.scatter)],
        f"ReLU, gain √2, {result.layers} layers: one network and another")
    print_table([["width", "std of ln q", "forecast", "dead"], *(
        [w, f"{std:.2g}", f"{told:.2g}", dead] for w, std, told, dead in result.rotations)],
        "the same with random rotations")
    print_table([["a stream of residual blocks", "its size", "forecast"], *(
        [name, f"{a:.2f}", f"{b:.2f}"] for name, a, b in result.streams)],
        f"after {result.blocks} blocks")
    print_table([["kept in float16", "first ∞ in layer", "last signal", "gradients gone"], *(
        [f"{kind} {gain:.2f}", first or "–", "–" if last is None else f"{last:.1e}",
         "–" if gone is None else f"{100 * gone:.0f} %"]
        for kind, gain, first, last, gone in result.halves)])
    print_table([["gain", "best rate", "nats, unseen", "spread"], *(
        [f"{gain:.2f}", f"{rate:g}{' (edge)' if edge else ''}", f"{nats:.3f}", f"{spread:.3f}"]
        for gain, rate, nats, spread, edge in result.learned)],
        f"{result.trained} layers of tanh, {result.steps} steps of AdamW, {result.seeds} seeds; "
        f"frequencies alone: {result.frequencies:.3f}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.9), sharey=True)
    for ax, kind in zip(axes, KINDS):
        for color, gain in zip(COLORS, GAINS[kind]):
            x, d, fx, fd = result.curves[f"{kind} {gain:.2f}"]
            layers = range(len(x))
            ax.semilogy(layers, x, color=color, label=f"gain {gain:.2f}")
            ax.semilogy(layers, d, color=color, ls="--")
            ax.semilogy(layers, fx, color=color, lw=4, alpha=0.2)
            ax.semilogy(layers, fd, color=color, lw=4, alpha=0.2)
        ax.set_title(kind, loc="left")
        ax.set_xlabel("layer")
        ax.legend(frameon=False, loc="lower center")
    axes[0].set_ylabel("root mean square")
    axes[0].set_ylim(1e-15, 1e9)              # room below for the names
    fig.suptitle(title(result) + "\nsolid: signals, from the left; dashed: gradients, from the "
                 "right; pale: forecast", x=0.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding: what PyTorch's usual gain for tanh does."""
    row = next(r for r in result.sizes if r[0] == "tanh" and r[1] > 1.6)
    return (f"At gain 5/3 the signals of tanh keep their size, and over {result.layers} layers the "
            f"gradients grow {row[4]:.0f}-fold")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
