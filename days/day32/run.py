"""Day 32 · Does a gradient survive 24 layers, without a stream, and with two kinds of it?"""

import math
from dataclasses import dataclass

import numpy as np

from days.day32.probes import controls, deep, learn, look, noisy, pre_norm_gains, windows
from days.day32.tower import DEPTH, KINDS, Tower
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer

T, SMALL = 32, 0.02        # GPT-2's weights start at N(0, 0.02²)
TOWERS = {kind: (kind, None) for kind in KINDS} | {"plain, small": ("plain", SMALL)}
RATES = dict(zip(TOWERS, (5e-3, 3.9e-2, 3.9e-2, 1.7e-2, 5e-3, 1.1e-2, 1.7e-2)))  # each one's best
COLORS = dict(zip(KINDS, ("#c8553d", "#e09f3e", "#2a9d8f", "#1b4965")))


@dataclass(frozen=True)
class Result:
    corpus: str
    models: int       # random starts averaged over
    steps: int
    rates: dict       # tower → the best rate of experiments/residual.py
    rows: list        # [tower, width of the last stream over the first's, gradient of the first
                      #  over the last's, branches on a path, expected, nats of the first seed]
    controls: list    # [tower, then of the growth of the gradient over that of the stream the
                      #  typical value and the factor of its standard error: for the loss, for a
                      #  random gradient, for that if none passes the scores, for that with ReLU;
                      #  then branches on a path for the third, expected, how squares add up]
    gains: list       # of each branch of the pre-norm tower, in the setting of the last of these,
                      #  [mean square that comes out for 1 that goes in, the same going back, how
                      #  much the stream's tokens have in common, the gradient at the first eighth,
                      #  and the first two by averaging alone]
    gradients: dict   # tower → rms gradient of the stream before layer 0, …, after the last,
                      #  like all sizes the geometric mean over random starts
    streams: dict     # tower → rms of the stream itself at the same places
    shares: dict      # tower → share of the squared gradient by path length, and expected
    deep: list        # [layers, then for pre-norm and for post-norm: width of the last stream,
                      #  its gradient, that of the last matrix that writes]
    dropout: list     # [rate, how far the last stream moves: expected, one draw, mean of 20, and
                      #  that mean if means were kept]
    letters: float    # nats of letter frequencies
    knowing_nothing: float   # ln V


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    V, starts = tokenizer.vocab_size, range(seed, seed + (1 if fast else 24))
    depths, steps = ((6, 12), 2) if fast else ((6, 12, 24, 48, 96), 100)
    choosing, report = np.array_split(unseen, 2)        # rates were chosen on the first
    gradients, streams, shares, rows, deeper, controlled = {}, {}, {}, [], [], []
    with progress(5 + len(TOWERS) + len(depths), "gradients") as advance:
        gains = np.mean([pre_norm_gains(V, ids, T, start) for start in starts], axis=0)
        advance(1, "gains")
        for kind in KINDS[:4]:
            found = np.array([controls(V, kind, ids, T, start) for start in starts])
            controlled.append([kind, *(x for column in found.T[:4] for x in with_error(column)),
                               *found[:, 4:].mean(axis=0).tolist()])
            advance(1, f"controls, {kind}")
        for tower, (kind, std) in TOWERS.items():
            *sizes, split = zip(*(look(V, kind, std, ids, T, start) for start in starts))
            gradients[tower], streams[tower] = (typical(part) for part in sizes)
            shares[tower] = np.mean(split, axis=0)
            advance(1, tower)
        for M in depths:
            deeper.append([M] + [size for kind in ("pre-norm", "post-norm") for size in typical(
                deep(V, kind, M, ids, T, start) for start in starts)])
            advance(1, f"{M} layers")
    with (kernels(), progress(len(TOWERS) * steps, "training") as advance,
          np.errstate(over="ignore", invalid="ignore")):     # plain layers can explode
        for tower, (kind, std) in TOWERS.items():
            g, s = gradients[tower], streams[tower]
            rows.append([tower, s[-1] / s[0], g[0] / g[-1],
                         *map(float, shares[tower] @ np.arange(DEPTH + 1)),
                         learn(Tower(V, kind, np.random.default_rng(seed), std), ids, report, T,
                               steps, RATES[tower], seed, advance)])
    letters = np.bincount(ids, minlength=V) + 1
    inputs = windows(ids, 2, T, np.random.default_rng(seed))[0]
    return Result(corpus.name, len(starts), steps, RATES, rows, controlled, gains, gradients,
                  streams, shares, deeper,
                  [[rate, *typical(noisy(V, rate, inputs, start, 20) for start in starts)]
                   for rate in (0.1, 0.5)],
                  float(-np.log(letters / letters.sum())[report].mean()), math.log(V))


def typical(starts):
    """Place by place, the geometric mean over random starts; 0 if one of them is."""
    with np.errstate(divide="ignore"):
        return [float(np.exp(np.mean(np.log(place)))) for place in zip(*starts)]


def with_error(values):
    """The geometric mean, and the factor that is its standard error."""
    logs = np.log(values)
    error = logs.std(ddof=1) / len(logs)**0.5 if len(logs) > 1 else 0.0
    return float(np.exp(logs.mean())), float(np.exp(error))


def table(result):
    head = [f"{DEPTH} layers", "stream", "gradient", "quotient", "path", "expected", "nats"]
    return [head] + [[tower, f"{wide:.2g}", f"{ratio:.2g}", f"{ratio / wide:.1f}" if wide else "",
                      f"{length:.1f}", f"{expected:.1f}", f"{loss:.2f}"]
                     for tower, wide, ratio, length, expected, loss in result.rows]


def show(result):
    print_table(table(result), f"widths and paths at the start, nats after {result.steps} steps")
    print(f"letter frequencies alone: {result.letters:.2f} nats; "
          f"knowing nothing: {result.knowing_nothing:.2f}")
    print_table([["gradient ÷ stream", "of the loss", "random", "not by scores", "ReLU"]] + [
        [kind, *(f"{x:.2f} ×/÷ {error:.2f}" for x, error in zip(rest[:8:2], rest[1:8:2]))]
        for kind, *rest in result.controls], "the law says 1")
    print_table([["attention", "forward", "averaging", "back", "averaging", "in common",
                  "front"]] + [
        [f"layer {i}", f"{there:.2f}", f"{up:.2f}", f"{back:.2f}", f"{down:.2f}", f"{same:.0%}",
         f"{first:.0%}"]
        for i, (there, back, same, first, up, down) in enumerate(result.gains) if i in (0, 6, 22)],
        "gains in pre-norm, random gradient, ReLU; beside them, by averaging alone")
    print_table([["layers", "pre-norm stream", "its gradient", "product", "last matrix: pre",
                  "post"]] + [[M, f"{s:.2f}", f"{g:.1e}", f"{s * g:.1e}", f"{w:.1e}", f"{v:.1e}"]
                              for M, s, g, w, _, _, v in result.deep])
    print_table([["dropout", "moves the last stream by", "expected", "mean of 20 draws"]] + [
        [rate, f"{one:.0%}", f"{expected:.0%}", f"{mean:.0%}"]
        for rate, expected, one, mean, _ in result.dropout])


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.2))
    layers, rows = np.arange(DEPTH + 1), {row[0]: row for row in result.rows}
    for (kind, color), at, below in zip(COLORS.items(), (18, 4, 12, 13), (-6, -8, 24, 18)):
        left.semilogy(layers, result.gradients[kind], color=color, lw=1.8)
        left.annotate(kind, (at, result.gradients[kind][at]), (0, -below), color=color,
                      ha="right" if kind == "plain" else "left", textcoords="offset points")
    pre, widths = result.gradients["pre-norm"], np.array(result.streams["pre-norm"])
    left.semilogy(layers, pre[-1] * widths[-1] / widths, color=COLORS["pre-norm"], lw=1, ls=":")
    left.set(xlabel="layer the stream enters", ylabel="rms gradient of the loss",
             xticks=range(0, DEPTH + 1, 4))
    left.set_ylim(bottom=min(pre) / 2)
    for kind in ("pre-norm", "post-norm"):
        measured, expected = result.shares[kind]
        right.plot(layers, measured, "o", color=COLORS[kind], ms=5)
        right.plot(layers, expected, color=COLORS[kind], lw=1, ls=":")
        top = int(np.argmax(measured))
        right.annotate(kind, (top, max(measured[top], expected[top])), (8, 8), color=COLORS[kind],
                       textcoords="offset points")
    right.set(xlabel=f"branches on a path, of {DEPTH}", ylabel="share of the squared gradient",
              xticks=range(0, DEPTH + 1, 4))
    right.set_ylim(0, 1.15 * right.get_ylim()[1])
    left.text(0.03, 0.93, "← the gradient travels this way", transform=left.transAxes)
    fig.suptitle(f"A stream carries the gradient down {DEPTH} layers (left). Its paths go through "
                 f"{rows['post-norm'][3]:.1f} branches\nin post-norm and {rows['pre-norm'][3]:.1f} "
                 "in pre-norm (right; dotted: expected)", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
