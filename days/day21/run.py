"""Day 21 · Norms in deep networks: what stays alive, what trains, what depends on the batch."""

from dataclasses import dataclass

import numpy as np

from days.day21.batches import TRAINING, companions, leaks, nats_in_batches
from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.grad import ops
from llm.layers.module import Module
from llm.layers.norm import BatchNorm, LayerNorm
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws, log_probabilities, train
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64
NORMS = {"no norm": None, "LayerNorm": LayerNorm, "BatchNorm": BatchNorm}
RATES = {"no norm": 0.002, "LayerNorm": 0.0015, "BatchNorm": 0.0021}    # experiments/norms.py
COLORS = {"no norm": "#777777", "LayerNorm": "#c2571a", "BatchNorm": "#1f5fa8"}


@dataclass(frozen=True)
class Result:
    corpus: str
    deep: int             # layers of the untrained network
    gains: list           # the weights' standard deviations are gain/√inputs
    scales: dict          # norm → for each gain, standard deviation of each layer's output
    gradients: dict       # norm → for each gain, |w|·|∇w| of each layer's weights
    layers: int           # of the trained network
    steps: int
    best: dict            # norm → [rate, nats on unseen text, mean of the seeds]
    losses: dict          # norm → nats of each seed
    curves: dict          # norm → training loss of each step, over the seeds and 25 steps
    companions: list      # rows: batch, std of one row's output over its companions, predicted
    evaluated: list       # rows: batch, nats when BatchNorm uses that batch's statistics
    windows: int          # that each of these is a mean over, from batches of 16 on
    running: float        # nats with the running statistics
    leak: dict            # norm → change at the first position when the last one changes


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    seen = tokenizer.encode(corpus.train[:1_000_000])
    unseen = tokenizer.encode(corpus.validation[:3_000] if fast else
                              corpus.validation[20_000:40_000])
    size, deep, layers, steps = tokenizer.vocab_size, 20, 8, 200 if fast else 500
    windows = 2_048 if fast else 16_384
    seeds = [seed + 10 * i for i in range(1 if fast else 3)]
    make = lambda kind, depth, gain, seed=seed: DeepWindow(
        size, CONTEXT, CHANNELS, HIDDEN, depth, np.random.default_rng(seed), NORMS[kind], gain)
    contexts, targets = next(draws(seen, CONTEXT, 512, np.random.default_rng(seed)))
    gains = [0.5, 0.7, 1.0, 1.5, 3.0]
    scales = {kind: [[float(a.data.std()) for a in
                      make(kind, deep, gain).activations(contexts, **flag(kind))]
                     for gain in gains] for kind in NORMS}
    gradients = {kind: [weighed(make(kind, deep, gain), contexts, targets, flag(kind))
                        for gain in gains] for kind in NORMS}
    losses, best, curves = {}, {}, {}
    with progress(len(NORMS) * len(seeds), f"training {layers} layers") as bar:
        for kind, rate in RATES.items():
            losses[kind], runs = [], []
            for start in seeds:
                model = make(kind, layers, 1.0, start)
                optimizer = AdamW(model.named_parameters(), decay=0.0)
                runs.append(train(Flagged(model, flag(kind)),
                                  draws(seen, CONTEXT, BATCH, np.random.default_rng(start + 1)),
                                  rate, steps=steps, update=lambda _, r, o=optimizer: o.step(r)))
                losses[kind].append(-float(log_probabilities(model, unseen).mean()))
                kept = model                        # in the end a BatchNorm
                bar(1)
            best[kind] = [rate, float(np.mean(losses[kind]))]
            curves[kind] = np.convolve(np.mean(runs, axis=0), np.full(25, 1 / 25),
                                       "valid").tolist()
    rng = np.random.default_rng(seed)
    return Result(
        corpus.name, deep, gains, scales, gradients, layers, steps, best, losses, curves,
        companions(rng, 100 if fast else 1000),
        [[b, nats_in_batches(kept, unseen, CONTEXT, b, windows, np.random.default_rng(seed))]
         for b in (2, 4, 16, 64, 256)], windows,
        -float(log_probabilities(kept, unseen).mean()), leaks(rng))


def weighed(model, contexts, targets, options):
    """|w|·|∇w| of each hidden layer: what a small relative change of its weights does."""
    ops.cross_entropy(model(contexts, **options), targets).backward()
    return [float(np.linalg.norm(layer.w.data) * np.linalg.norm(layer.w.grad))
            for layer in model.layers]


def flag(kind):
    """What the norms of this kind are to be told in training."""
    return TRAINING if kind == "BatchNorm" else {}


class Flagged(Module):
    """A model that is told the same options in each call."""

    def __init__(self, model, options):
        self.model, self.options = model, options

    def __call__(self, ids):
        return self.model(ids, **self.options)


def table(result):
    rows = [["", f"size after {result.deep} layers, gain {result.gains[0]:g}",
             f"gain {result.gains[-1]:g}", "best rate", f"nats, {result.layers} layers"]]
    return rows + [[kind, f"{result.scales[kind][0][-1]:.1e}", f"{result.scales[kind][-1][-1]:.2f}",
                    f"{rate:g}", f"{loss:.3f}"] for kind, (rate, loss) in result.best.items()]


def show(result):
    print_table(table(result), f"{result.corpus}, {result.steps} steps")
    print_table([["batch", "an output's std over its companions", "predicted"], *(
        [b, f"{x:.3f}", f"{p:.3f}"] for b, x, p in result.companions)], "BatchNorm in training")
    print_table([["batch", "nats, statistics of the batch"], *(
        [b, f"{x:.3f}"] for b, x in result.evaluated)],
        f"BatchNorm on unseen text; with running statistics: {result.running:.3f}")
    print_text("Changing the last position moves the first by " + ", ".join(
        f"{x:.3f} ({kind})" for kind, x in result.leak.items()))


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    depth = range(1, result.deep + 1)
    for gain, sizes in zip(result.gains, result.scales["no norm"]):
        left.semilogy(depth, sizes, color=COLORS["no norm"], lw=1)
        left.text(result.deep + 0.4, sizes[-1] * (1.3 if gain == result.gains[-1] else 1),
                  f"gain {gain:g}", color=COLORS["no norm"], va="center", fontsize=8.5)
    for kind, place in (("LayerNorm", 1.3), ("BatchNorm", 7.5)):
        for sizes in result.scales[kind]:          # the two lie on each other: one is dashed
            left.semilogy(depth, sizes, color=COLORS[kind], lw=2.5 if kind == "LayerNorm" else 1.2,
                          ls="-" if kind == "LayerNorm" else (0, (4, 3)))
        left.text(place, 1.2, kind, color=COLORS[kind])
    left.text(1.3, result.scales["no norm"][0][-1], "no norm", color=COLORS["no norm"])
    ends = [sizes[-1] for kind in ("LayerNorm", "BatchNorm") for sizes in result.scales[kind]]
    left.set(xlabel="layer", xlim=(1, result.deep + 4.5), xticks=(1, 5, 10, 15, 20),
             ylabel="size of its outputs (standard deviation)", ylim=(None, 4))
    left.set_title(f"With either norm the size after {result.deep} layers is\n{min(ends):.2f} to "
                   f"{max(ends):.2f} whatever the weights' gain")
    height = -np.inf
    for kind, curve in sorted(result.curves.items(), key=lambda item: item[1][-1]):
        steps = np.arange(len(curve)) + result.steps - len(curve)
        right.plot(steps, curve, color=COLORS[kind])
        height = max(curve[-1], height + 0.19)                   # labels must not meet
        right.text(result.steps * 1.02, height, f"{kind}\nunseen: {result.best[kind][1]:.2f}",
                   color=COLORS[kind], va="center", fontsize=8.5)
    right.set(xlabel="step", ylabel="training loss, mean of 25 steps",
              xlim=(0, 1.34 * result.steps), xticks=np.linspace(0, result.steps, 6))
    ends = {kind: curve[-1] for kind, curve in result.curves.items()}
    right.set_title(f"{result.layers} layers, best rates: BatchNorm trains to "
                    f"{ends['BatchNorm']:.2f},\nLayerNorm to {ends['LayerNorm']:.2f}, "
                    f"no norm to {ends['no norm']:.2f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
