"""Day 21 · Norms in deep networks: what stays alive, what trains, what depends on the batch."""

from dataclasses import dataclass

import numpy as np

from days.day21.batches import companions, leaks, nats_in_batches
from days.day21.picture import draw
from days.day21.training import (
    CHANNELS,
    COMPARED,
    CONTEXT,
    HIDDEN,
    KINDS,
    NORMS,
    flag,
    lengthened,
    less,
    nats,
    spread,
    trained,
    weighed,
)
from days.harness import main, print_table, print_text, progress, say
from llm.data.text import load_or_default
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws
from llm.tokens.chars import CharTokenizer


@dataclass(frozen=True)
class Result:
    corpus: str
    deep: int             # layers of the untrained network
    gains: list           # g of its start: the weights' standard deviations are g/√inputs
    scales: dict          # norm → for each g, standard deviation of each layer's output
    gradients: dict       # norm → for each g, |w|·|∇w| of each layer's weights
    longer: dict          # norm → |∇w| of one layer with its weights × 1, 2, 4, / the first
    layers: int           # of the trained network
    steps: int
    starts: dict          # kind → [g, rate]
    losses: dict          # kind → nats on unseen text of each seed
    unseen: dict          # kind → their mean and standard deviation
    less: dict            # "this − that" → [mean, standard error] of the difference, by seeds
    curves: dict          # kind → training loss of each step, over the seeds and 25 steps
    companions: list      # rows: batch, std of one row's output over its companions, predicted
    evaluated: list       # rows: batch, nats with that batch's statistics, with the running
    windows: int          # that each of these is a mean over, from batches of 16 on
    running: float        # nats with the running statistics
    leak: dict            # norm → change at the first position when the last one changes


def measure(fast, seed):
    """The untrained network, the trained ones, and three looks at BatchNorm's batch."""
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    size = tokenizer.vocab_size
    seen = tokenizer.encode(corpus.train[:1_000_000])
    unseen = tokenizer.encode(corpus.validation[:3_000] if fast else
                              corpus.validation[20_000:60_000])
    deep, layers, steps, windows = 20, 8, 200 if fast else 500, 2_048 if fast else 16_384
    gains, scales, gradients = [0.5, 0.7, 1.0, 1.5, 3.0], {}, {}
    contexts, targets = next(draws(seen, CONTEXT, 512, np.random.default_rng(seed)))
    for kind, norm in NORMS.items():
        models = [DeepWindow(size, CONTEXT, CHANNELS, HIDDEN, deep, np.random.default_rng(seed),
                             norm, gain) for gain in gains]
        scales[kind] = [[float(a.data.std()) for a in model.activations(contexts, **flag(kind))]
                        for model in models]
        gradients[kind] = [weighed(model, contexts, targets, flag(kind)) for model in models]
    seeds = [seed + 100 + 10 * i for i in range(1 if fast else 5)]    # none that chose a rate
    losses, curves = {kind: [] for kind in KINDS}, {}
    with progress(len(KINDS) * len(seeds), f"training {layers} layers") as bar:
        for kind, (_, _, rate) in KINDS.items():
            runs = []
            for start in seeds:
                model, run = trained(kind, rate, start, seen, size, layers, steps)
                runs.append(run)
                losses[kind].append(nats(model, unseen))
                bar(1)
            curves[kind] = np.convolve(np.mean(runs, axis=0), np.full(25, 1 / 25),
                                       "valid").tolist()
    rng = np.random.default_rng(seed)               # and `model` is the last BatchNorm
    return Result(
        corpus.name, deep, gains, scales, gradients,
        {kind: lengthened(kind, size, layers, contexts, targets, seed) for kind in NORMS},
        layers, steps,
        {kind: [gain, rate] for kind, (_, gain, rate) in KINDS.items()}, losses,
        {kind: spread(values) for kind, values in losses.items()},
        {f"{this} − {that}": less(losses[this], losses[that]) for this, that in COMPARED}, curves,
        companions(rng, 100 if fast else 1000),
        [[b, *nats_in_batches(model, unseen, CONTEXT, b, windows, np.random.default_rng(seed))]
         for b in (2, 4, 16, 64, 256)], windows, losses["BatchNorm"][-1], leaks(rng))


def table(result):
    """The untrained network: rows of the starts without a norm, and one for each norm."""
    rows = [["", "gain of the start", f"size, layer {result.deep}", "gradient, layer 2",
             f"gradient, layer {result.deep}"]]
    shown = [("no norm", i) for i, gain in enumerate(result.gains) if gain in (0.5, 1.5, 3)]
    for kind, i in [*shown, ("LayerNorm", 0), ("BatchNorm", 0)]:
        numbers = result.scales[kind][i][-1], *(result.gradients[kind][i][at] for at in (1, -1))
        gain = f"{result.gains[i]:g}"
        rows.append([kind, gain if kind == "no norm" else f"{gain} to {result.gains[-1]:g}",
                     *(f"{x:.1e}" if x < 0.001 else f"{x:.2f}" for x in numbers)])
    return rows


def show(result):
    """The untrained network, the trained ones, and BatchNorm's batches."""
    print_table(table(result), f"{result.deep} layers of tanh, untrained; gradient: |w|·|∇w|")
    print_table([["", "gain", "rate", "nats", "sd"], *(
        [kind, *(f"{number:g}" for number in result.starts[kind]), f"{mean:.3f}",
         "" if sd is None else f"{sd:.3f}"] for kind, (mean, sd) in result.unseen.items())],
        f"{result.corpus}, {result.layers} layers, {result.steps} steps, unseen text")
    print_table([["batch", "an output's std over its companions", "predicted"], *(
        [b, f"{x:.3f}", f"{p:.3f}"] for b, x, p in result.companions)], "BatchNorm in training")
    print_table([["batch", "nats, statistics of the batch", "running, same windows"], *(
        [b, f"{x:.3f}", f"{y:.3f}"] for b, x, y in result.evaluated)],
        f"BatchNorm on unseen text; with running statistics: {result.running:.3f}")
    print_text("Changing the last position moves the first by " + ", ".join(
        f"{x:.3f} ({kind})" for kind, x in result.leak.items()))


if __name__ == "__main__":
    main(__file__, measure, show, draw)
