"""Day 21 · Which half of BatchNorm is ahead of LayerNorm: its mean or its standard deviation?

    python experiments/norm_halves.py [--fast] [--json] [--out DIR]

Two norms between the two. One subtracts each channel's mean over the batch, and then is LayerNorm.
The other divides each channel by its standard deviation over the batch, as BatchNorm does, and
subtracts nothing. Both are trained and judged as in `norms.py`: the same texts, seeds and grids of
rates. LayerNorm and BatchNorm themselves stand beside them. Also, for LayerNorm before and after
training: how much of what it gives is the same for all tokens, layer by layer. Three minutes on one
core.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import numpy as np

from days.day21.batches import TRAINING
from days.day21.training import BATCH, CHANNELS, CONTEXT, HIDDEN, Flagged, less, nats, trained
from days.day21.training import KINDS as RUN
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from experiments.norms import CHOOSE, GROW, LAYERS, REPORT, STEP, grown
from llm.data.text import load_or_default
from llm.functions import norm
from llm.grad import ops
from llm.grad.tensor import Tensor, no_grad, primitive
from llm.layers.norm import BatchNorm, layernorm
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import draws, train
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW


def centred_rows(x, gain, bias):
    """LayerNorm of x (N, C) minus its mean over the N rows."""
    return norm.layernorm(x - x.mean(axis=0), gain, bias)


def centred_rows_vjp(dout, *saved):
    dx, dgain, dbias = norm.layernorm_vjp(dout, *saved)
    return dx - dx.mean(axis=0), dgain, dbias


def scaled_channels(x, gain, bias):
    """x (N, C) / (its standard deviation over the N rows) · gain + bias."""
    centred = x - x.mean(axis=0)
    rstd = 1 / np.sqrt((centred * centred).mean(axis=0) + 1e-5)
    return x * rstd * gain + bias, (x, centred, rstd, gain)


def scaled_channels_vjp(dout, x, centred, rstd, gain):
    d = dout * gain
    dx = rstd * (d - centred * rstd**2 * (d * x).mean(axis=0))
    return dx, (dout * x * rstd).sum(axis=0), dout.sum(axis=0)


class Half(BatchNorm):
    """A norm that keeps BatchNorm's running statistics, and uses one of the two."""

    def __call__(self, x, training=False):
        if not training:
            return self.running(x)
        super().__call__(Tensor(x.data), training=True)          # moves the running statistics
        return self.batch(x, self.gain, self.bias)


class CentredRows(Half):
    batch = staticmethod(primitive(centred_rows, centred_rows_vjp))

    def running(self, x):
        return layernorm(x - Tensor(self.mean), self.gain, self.bias)


class ScaledChannels(Half):
    batch = staticmethod(primitive(scaled_channels, scaled_channels_vjp))

    def running(self, x):
        return x * (self.gain * Tensor(1 / np.sqrt(self.var + self.eps))) + self.bias


START = {"mean of the batch, then LayerNorm": (CentredRows, 0.003),
         "standard deviation of the batch": (ScaledChannels, 0.003)}


def half_trained(kind, rate, seed, seen, size, steps):
    """As `trained` of the day, with one of the two norms here."""
    model = DeepWindow(size, CONTEXT, CHANNELS, HIDDEN, LAYERS, np.random.default_rng(seed),
                       START[kind][0])
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    train(Flagged(model, TRAINING), draws(seen, CONTEXT, BATCH, np.random.default_rng(seed + 1)),
          rate, steps=steps, update=lambda _, r: optimizer.step(r))
    return model


def shared(model, contexts):
    """Of each layer's normalised rows: the mean square of their mean over all tokens.

    Their mean square is 1, so this is the part of it that is the same for all tokens.
    """
    found = []
    with no_grad():
        h = model.embed(contexts)
        h = h.reshape(len(contexts), -1)
        for layer, ln in zip(model.layers, model.norms):
            x = layer(h)
            normal = norm.layernorm(x.data, np.ones_like(ln.gain.data), np.zeros_like(ln.bias.data))
            found.append(float((normal[0].mean(axis=0) ** 2).mean()))
            h = ops.tanh(ln(x))
    return found


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    steps, size, seeds = (20, 1_000, 1) if fast else (500, 20_000, None)
    seen, vocab = tokenizer.encode(corpus.train[:1_000_000]), tokenizer.vocab_size
    texts = [tokenizer.encode(t) for t in (corpus.validation[:size],
                                           corpus.validation[size:3 * size])]
    contexts = next(draws(texts[1], CONTEXT, 500 if fast else 5_000, np.random.default_rng(0)))[0]
    rows, part = {}, {"untrained": [], "trained": []}
    with progress(len(START) + 1, "halves of BatchNorm") as bar:
        for kind, (_, start) in START.items():
            def scored(k, seed, piece, kind=kind, start=start):
                model = half_trained(kind, start * STEP**k, seed, seen, vocab, steps)
                return nats(model, texts[piece])

            def score(k, scored=scored):
                return statistics.mean(scored(k, seed, 0) for seed in CHOOSE[:seeds])
            grid = grown(score, 0 if fast else GROW)
            best = min(grid, key=grid.get)
            losses = [scored(best, seed, 1) for seed in REPORT[:seeds]]
            rows[kind] = {"rate": start * STEP**best,
                          "grid": [[start * STEP**k, grid[k]] for k in sorted(grid)],
                          "nats": losses, "mean": statistics.mean(losses)}
            bar(1, f"{kind}: {rows[kind]['mean']:.3f} at {rows[kind]['rate']:.2g}")
        for kind in ("LayerNorm", "BatchNorm"):                # as the run trains them
            models = [trained(kind, RUN[kind][2], seed, seen, vocab, LAYERS, steps)[0]
                      for seed in REPORT[:seeds]]
            losses = [nats(model, texts[1]) for model in models]
            rows[kind] = {"rate": RUN[kind][2], "nats": losses, "mean": statistics.mean(losses)}
            if kind == "LayerNorm":
                part["trained"] = [shared(model, contexts) for model in models]
        for seed in REPORT[:seeds]:
            model, _ = trained("LayerNorm", 0, seed, seen, vocab, LAYERS, 0)
            part["untrained"].append(shared(model, contexts))
        bar(1)
    pairs = [(this, that) for i, this in enumerate(rows) for that in list(rows)[i + 1:]]
    return {"kinds": rows, "shared": part,
            "less": {f"{this} − {that}": less(rows[this]["nats"], rows[that]["nats"])
                     for this, that in pairs},
            "steps": steps, "fast": fast, "machine": machine()}


def show(record):
    print_table([["", "best rate", "nats", "each seed"], *(
        [kind, f"{r['rate']:.3g}", f"{r['mean']:.3f}", " ".join(f"{x:.3f}" for x in r["nats"])]
        for kind, r in record["kinds"].items())])
    print_table([["LayerNorm, shared by all tokens, layer", *range(1, LAYERS + 1)]] + [
        [name, *(f"{math.fsum(x) / len(x):.2f}" for x in zip(*rows))]
        for name, rows in record["shared"].items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "norm_halves", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "norm_halves.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"norm_halves.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"norm_halves: {error}")
        sys.exit(2)
