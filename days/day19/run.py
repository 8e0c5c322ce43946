"""Day 19 · Which rate at which step: a range run, three schedules, warmup, and clipping."""

import math
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import descend, draws, log_probabilities, train
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients
from llm.train.schedule import (
    Constant,
    WarmupCosine,
    WarmupStableDecay,
    exponential_range,
    suggest,
)

CONTEXT, CHANNELS, HIDDEN, BATCH, WARMUP = 6, 16, 64, 64, 30
COLORS = {"constant": "#1f5fa8", "cosine": "#c2571a", "warmup-stable-decay": "#2e7d4f"}


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    runs: int              # seeds averaged over in each number below
    range_rates: list
    range_losses: list     # None from where it is not finite
    suggested: float       # the rate read off the range run
    lowest: float          # the rate at its lowest averaged loss
    schedules: list        # rows: name, peak, nats on unseen text
    best: dict             # name → [peak, nats]
    curves: dict           # name → [rate of each step, averaged training loss of each step]
    warmups: list          # rows: peak, nats without and with warmup, highest early loss of both
    bad_from: int          # first step of the three bad batches
    clips: list            # rows: optimizer, limit or None, norm before, norm then, loss after
    clip_curves: dict      # "no clipping" / "clipped to 1" → losses of plain steps
    limit: float


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    seen = tokenizer.encode(corpus.train[:1_000_000])
    unseen = tokenizer.encode(corpus.validation[:4_000 if fast else 20_000])
    steps, runs, limit = (100, 1, 1.0) if fast else (500, 2, 1.0)
    def run(schedule, layers=1, seed=seed, steps=steps, limit=math.inf, bad=(), plain=False):
        """Train a model; its loss on unseen text, that of each step, and the norms."""
        model = DeepWindow(tokenizer.vocab_size, CONTEXT, CHANNELS, HIDDEN, layers,
                           np.random.default_rng(seed), gain=1.0 if layers == 1 else 1.5)
        optimizer, norms = AdamW(model.named_parameters()), []
        def update(parameters, rate):
            norms.append(clip_gradients([p.grad for p in parameters.values()], limit))
            if math.isfinite(norms[-1]):
                descend(parameters, rate) if plain else optimizer.step(rate)
        batches = draws(seen, CONTEXT, BATCH, np.random.default_rng(seed + 1))
        with np.errstate(over="ignore", invalid="ignore"):        # the range run goes too far
            losses = train(model, spoiled(batches, bad), schedule, steps=steps, update=update)
        return -float(log_probabilities(model, unseen).mean()), losses, norms

    makers = {"constant": Constant, "cosine": lambda peak: WarmupCosine(peak, WARMUP),
              "warmup-stable-decay": lambda peak: WarmupStableDecay(peak, WARMUP)}
    peaks, high = ((0.01,), (0.05,)) if fast else ((0.005, 0.01, 0.02), (0.02, 0.05, 0.1))
    clip_steps = 60 if fast else 300
    bad_from, clips, clip_curves = clip_steps // 2, [], {}
    schedules, best, curves, warmups = [], {}, {}, []
    with progress(len(makers) * len(peaks) * runs + 2 * len(high) * runs + 5, "training") as bar:
        ranged = exponential_range(1e-5, 3.0)
        range_losses = run(ranged, steps=300)[1]
        range_rates = [ranged(i + 1, 300) for i in range(300)]
        bar(1)
        for name, make in makers.items():
            for peak in peaks:
                done = []
                for i in range(runs):
                    done.append(run(make(peak), seed=seed + 10 * i))
                    bar(1)
                loss = float(np.mean([x[0] for x in done]))
                schedules.append([name, peak, loss])
                if name not in best or loss < best[name][1]:
                    best[name] = [peak, loss]
                    curves[name] = [[make(peak)(i + 1, steps) for i in range(steps)],
                                    smooth(np.mean([x[1] for x in done], axis=0))]
        for peak in high:
            row = [peak]
            for warmup in (0, WARMUP):
                done = []
                for i in range(runs):
                    done.append(run(WarmupCosine(peak, warmup), seed=seed + 10 * i))
                    bar(1)
                row.append([float(np.mean([x[0] for x in done])),
                            float(np.mean([max(x[1][:2 * WARMUP]) for x in done]))])
            warmups.append([peak, row[1][0], row[2][0], row[1][1], row[2][1]])
        for kind, rate in (("plain", 0.3), ("AdamW", 0.005)):
            for most in (math.inf, limit):
                _, losses, norms = run(Constant(rate), 6, steps=clip_steps, limit=most,
                                       bad=range(bad_from, bad_from + 3), plain=kind == "plain")
                after = float(np.mean(losses[bad_from + 2:bad_from + 12]))
                clips.append([kind, limit if most == limit else None,
                              float(np.median(norms[:bad_from - 1])),
                              float(max(norms[bad_from - 1:bad_from + 5])), after])
                if kind == "plain":
                    clip_curves["no clipping" if most > limit else "clipped"] = losses
                bar(1)
    return Result(corpus.name, steps, runs, range_rates,
                  [x if math.isfinite(x) else None for x in range_losses],
                  *suggest(range_rates, range_losses), schedules, best, curves, warmups, bad_from,
                  clips, clip_curves, limit)


def spoiled(batches, bad):
    """The same batches; at the steps `bad` one that holds nothing but token 0, again and again."""
    for step, (contexts, targets) in enumerate(batches, 1):
        yield (contexts * 0, targets * 0) if step in bad else (contexts, targets)


def smooth(losses, width=25):
    """Means over `width` steps, one each step from the first full window on."""
    return np.convolve(losses, np.full(width, 1 / width), "valid").tolist()


def table(result):
    rows = [["schedule", "best peak", "nats, unseen"]]
    return rows + [[name, f"{peak:g}", f"{loss:.3f}"] for name, (peak, loss) in
                   result.best.items()]


def show(result):
    print(f"Range run: averaged loss lowest at a rate of {result.lowest:.3f}, so use "
          f"{result.suggested:.3f}.")
    print_table(table(result), f"AdamW, {result.steps} steps, mean of {result.runs}")
    print_table([["peak", "no warmup", f"{WARMUP} steps", "highest early loss", "with warmup"], *(
        [f"{p:g}", *(f"{x:.3f}" for x in row)] for p, *row in result.warmups)], "warmup (cosine)")
    print_table([["steps", "limit", "usual norm", "norm, bad batches", "mean loss after"], *(
        [kind, limit or "none", f"{a:.2f}", f"{b:.1f}", f"{c:.2f}"]
        for kind, limit, a, b, c in result.clips)], "three bad batches, six layers")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, ((rates, losses), (ranged, clipped)) = plt.subplots(2, 2, figsize=(9, 6.6))
    for name, (rate, loss) in result.curves.items():
        rates.plot(range(1, len(rate) + 1), rate, color=COLORS[name])
        losses.plot(np.arange(len(loss)) + result.steps - len(loss), loss, color=COLORS[name])
    top = max(max(rate) for rate, _ in result.curves.values())
    rates.set(ylim=(0, 1.38 * top), xlabel="step", ylabel="rate")
    for i, name in enumerate(result.curves):
        peak, loss = result.best[name]
        rates.text(result.steps, top * (1.35 - 0.11 * i), f"{name}: {loss:.3f} nats",
                   color=COLORS[name], ha="right", va="top")
    gain = result.best["constant"][1] - min(loss for _, loss in result.best.values())
    rates.set_title(f"Each at its best peak: a rate that ends low\ngains {gain:.2f} nats on "
                    "unseen text")
    final = [loss[-1] for _, loss in result.curves.values()]
    losses.set(ylim=(min(final) - 0.1, min(final) + 0.6), xlabel="step",
               ylabel="training loss, mean of 25 steps")
    losses.set_title("The gap opens while the rate falls")
    pairs = [(r, x) for r, x in zip(result.range_rates, result.range_losses) if x is not None]
    ranged.semilogx(*zip(*pairs), color="#444444", lw=0.9)
    ranged.axvline(result.suggested, color="#c2571a", lw=1)
    ranged.text(result.suggested * 0.8, 5.6, f"a third of the rate\nof the lowest average:\n"
                f"{result.suggested:.3f}", color="#c2571a", va="top", ha="right")
    ranged.set(ylim=(2, 6), xlabel="rate, rising every step", ylabel="loss of that step")
    ranged.set_title("One range run of 300 steps finds the rate")
    for name, color in (("no clipping", "#c2571a"), ("clipped", "#1f5fa8")):
        curve = result.clip_curves[name]
        start = result.bad_from - 16
        shown = range(start, min(start + 46, len(curve)))
        clipped.plot([i + 1 for i in shown], [curve[i] for i in shown], color=color)
    clipped.axvspan(result.bad_from - 0.5, result.bad_from + 2.5, color="0.9", zorder=0)
    clipped.text(result.bad_from - 1, 8.6, "bad\nbatches", color="0.4", ha="right", va="top")
    after = [row[4] for row in result.clips[:2]]
    for y, name, x, color in ((8.6, "no clipping", after[0], "#c2571a"),
                              (7.9, f"clipped to {result.limit:g}", after[1], "#1f5fa8")):
        clipped.text(result.bad_from + 30, y, f"{name}: {x:.2f}", color=color, ha="right",
                     va="top")
    clipped.set(xlabel="step", ylabel="loss of that step", ylim=(0, 9))
    clipped.set_title("Six layers, plain steps: mean loss of the ten\nsteps after three bad "
                      "batches")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
