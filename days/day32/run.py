"""Day 32 · Does a gradient survive 24 layers, without a stream, and with two kinds of it?"""

import math
from dataclasses import dataclass

import numpy as np

from days.day32.tower import DEPTH, C, Tower
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor, no_grad
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.schedule import WarmupCosine

T, B, SMALL = 32, 8, 0.02        # GPT-2's weights start at N(0, 0.02²)
KINDS = ("plain", "plain, normed", "post-norm", "pre-norm")
COLORS = dict(zip(KINDS, ("#c8553d", "#e09f3e", "#2a9d8f", "#1b4965")))


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    rates: list
    rows: list        # [kind, first gradient / last, that from SMALL weights, nats once trained at
                      #  each of the rates]
    gradients: dict   # kind → rms gradient of the stream before layer 0, …, after the last
    small: dict       # the same from SMALL weights
    streams: dict     # kind → rms of the stream itself at the same places
    dropout: list     # [rate, rms change of the last stream over draws, rms change of their mean]
    knowing_nothing: float   # ln V


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    steps, rates = (2, [1e-3]) if fast else (120, [3e-3, 1e-3, 3e-4])
    rows, gradients, small, streams = [], {}, {}, {}
    with kernels(), progress(len(KINDS) * len(rates) * steps, "training") as advance:
        for kind in KINDS:
            model = Tower(tokenizer.vocab_size, kind, np.random.default_rng(seed), SMALL)
            small[kind], _ = by_depth(model, ids, seed)
            model = Tower(tokenizer.vocab_size, kind, np.random.default_rng(seed))
            gradients[kind], streams[kind] = by_depth(model, ids, seed)
            losses = []
            for rate in rates:
                model = Tower(tokenizer.vocab_size, kind, np.random.default_rng(seed))
                losses.append(learn(model, ids, unseen, steps, rate, seed, advance))
            rows.append([kind, *(g[kind][0] / g[kind][-1] for g in (gradients, small)), losses])
        noise = [[rate, *noisy(tokenizer.vocab_size, rate, ids, seed)] for rate in (0.1, 0.5)]
    return Result(corpus.name, steps, rates, rows, gradients, small, streams, noise,
                  math.log(tokenizer.vocab_size))


def windows(ids, n, rng):
    rows = ids[rng.integers(0, len(ids) - T, n)[:, None] + np.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def by_depth(model, ids, seed):
    """rms of ∂loss/∂stream, caught by adding zeros that have a gradient, and of the stream."""
    probes = [Tensor(np.zeros((B, T, C), np.float32), requires_grad=True)
              for _ in range(DEPTH + 1)]
    loss, streams = model.loss(*windows(ids, B, np.random.default_rng(seed)), probes)
    sizes = [rms(s.data) for s in streams]
    loss.backward()
    return [rms(p.grad) for p in probes], sizes


def learn(model, ids, unseen, steps, rate, seed, advance):
    """The same AdamW for all; the loss on unseen text afterwards."""
    rng, optimizer = np.random.default_rng(seed), AdamW(model.named_parameters())
    schedule = WarmupCosine(rate, max(steps // 10, 1))
    for step in range(1, steps + 1):
        loss, _ = model.loss(*windows(ids, B, rng))
        model.zero_grad()
        loss.backward()
        optimizer.step(schedule(step, steps))
        advance(1, f"loss {float(loss.data):.2f}")
    with no_grad():
        return float(model.loss(*windows(unseen, 128, np.random.default_rng(seed)))[0].data)


def noisy(V, rate, ids, seed, draws=20):
    """How far dropout moves the last pre-norm stream: one draw, and the mean of many."""
    model = Tower(V, "pre-norm", np.random.default_rng(seed), dropout=rate)
    inputs, rng = windows(ids, 2, np.random.default_rng(seed))[0], np.random.default_rng(seed)
    with no_grad():
        still = model.streams(inputs)[-1].data
        moved = np.array([model.streams(inputs, rng)[-1].data for _ in range(draws)]) - still
    return rms(moved) / rms(still), rms(moved.mean(axis=0)) / rms(still)


def table(result):
    head = [f"{DEPTH} layers", "first gradient over last", f"from weights of {SMALL}",
            *(f"nats at rate {rate:g}" for rate in result.rates)]
    return [head] + [[kind, f"{ratio:.2g}", f"{small:.2g}", *(f"{x:.2f}" for x in losses)]
                     for kind, ratio, small, losses in result.rows]


def show(result):
    print_table(table(result), f"{result.corpus}, {result.steps} steps; knowing "
                f"nothing costs {result.knowing_nothing:.2f} nats")
    print_table([["dropout", "one draw moves the last stream by", "the mean of 20 draws by"]] + [
        [rate, f"{one:.0%}", f"{many:.0%}"] for rate, one, many in result.dropout])


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.2))
    for ax, curves, name in zip(axes, (result.gradients, result.small),
                                (f"weights from N(0, 1/{C})", f"weights from N(0, {SMALL}²)")):
        starts = [next(i for i, g in enumerate(curves[kind]) if g > 0) for kind in KINDS]
        heights = apart([math.log10(curves[kind][i]) for kind, i in zip(KINDS, starts)])
        for kind, height, start in zip(KINDS, heights, starts):
            ax.semilogy(range(start, DEPTH + 1), curves[kind][start:], color=COLORS[kind], lw=1.8)
            ax.annotate(kind + (", then 0" if start else ""), (start - 0.6, 10**height),
                        color=COLORS[kind], ha="right", va="center", fontsize=9,
                        annotation_clip=False)
        ax.set_ylim(top=max(ax.get_ylim()[1], 10**(1.04 * max(heights) - 0.04 * min(heights))))
        ax.set(xlabel="layer the stream enters", xlim=(-13, DEPTH), xticks=range(0, DEPTH + 1, 8))
        ax.set_title(name, fontsize=10)
    axes[0].set_ylabel("rms gradient of the loss")
    shares = {row[0]: row[1:3] for row in result.rows}
    plain = [f"{x:.4f}" if x > 1e-4 else f"{x:.0e}" if x else "nothing" for x in shares["plain"]]
    fig.suptitle(f"{DEPTH} plain layers pass on {plain[0]} of a gradient, or {plain[1]}, as the "
                 f"weights start;\na pre-norm stream passes on {shares['pre-norm'][0]:.1f} or "
                 f"{shares['pre-norm'][1]:.1f} times what set out", x=0.01, ha="left", fontsize=11)
    save(fig, path)


def apart(heights):
    """The same heights, moved up where two labels would meet."""
    placed, span = list(heights), max(heights) - min(heights)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    for low, high in zip(order, order[1:]):
        placed[high] = max(placed[high], placed[low] + span / 14)
    return placed


if __name__ == "__main__":
    main(__file__, measure, show, draw)
