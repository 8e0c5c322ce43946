"""Day 30 · Is it LayerNorm that keeps a model with sinusoids from scoring by distance?

    python experiments/moved_places.py [--fast] [--json] [--out DIR]

Four models, each with three seeds, the rate and the steps of the run: that of the run; one whose
waves have the mean 0 at every place, so that LayerNorm has no mean of theirs to subtract; its
control, with as few lengths of waves, whose mean is not 0; and one without a norm before the
attention. Each then reads windows of the trained length whose queries, keys, values or all of them
are told the places of later text, as `loss_by_way` does. One thread takes about a minute.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from days.day29.model import AttentionLM, train
from days.day30.paths import loss_by_way
from days.day30.run import LONG, RATES, SEEDS, B, C, H, T
from days.harness import (
    ROOT,
    UsageError,
    kernels,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    say,
    write_atomically,
)
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor
from llm.layers.module import Module
from llm.layers.positions import SinusoidalPositions, sinusoids
from llm.tokens.chars import CharTokenizer


class Twice(Module):
    """x (B, T, C) -> x + sinusoids of C/2 channels, and once more the same times `sign`.

    With the sign −1 the mean over the channels is 0 at every place.
    """

    def __init__(self, sign):
        self.sign = sign

    def __call__(self, x):
        waves = sinusoids(x.shape[-2], x.shape[-1] // 2, x.dtype)
        return x + Tensor(np.concatenate([waves, self.sign * waves], axis=-1))


class NoNorm(Module):
    """x -> x, in the place of the norm before the attention."""

    def __call__(self, x):
        return x


KINDS = {"the model of the run": (SinusoidalPositions, None),
         "waves of mean 0": (lambda: Twice(-1), None),
         "waves twice": (lambda: Twice(1), None),
         "no norm before the attention": (SinusoidalPositions, NoNorm)}


def measure(fast):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.train)
    unseen = np.array_split(tokenizer.encode(corpus.validation), 2)[1]
    steps, n, seeds = (20, 64, 1) if fast else (300, 512, SEEDS)
    nats = {}
    with kernels(), progress(len(KINDS) * seeds * steps, "training") as advance:
        for kind, (positions, norm) in KINDS.items():
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                model = AttentionLM(tokenizer.vocab_size, C, H, 1, rng, positions())
                if norm:
                    model.norms = [norm()]
                train(model, ids, steps, B, T, rng, advance, rate=RATES["sinusoidal"])
                for way, loss in loss_by_way(model, unseen, T, LONG - T, n).items():
                    nats.setdefault(kind, {}).setdefault(way, []).append(loss)
    return {"steps": steps, "nats": nats, "fast": fast, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few steps, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "moved_places", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = plain(measure(options.fast))
    write_atomically(options.out / "moved_places.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["new places in", *KINDS]] + [
        [way, *(" ".join(f"{x:.2f}" for x in record["nats"][kind][way]) for kind in KINDS)]
        for way in record["nats"]["waves of mean 0"]])
    say(f"moved_places.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"moved_places: {error}")
        sys.exit(2)
