"""Day 35 · A GPT of the main job's width beside the networks of days 16 and 22, for equal time.

    python experiments/equal_time.py [--fast] [--seconds S] [--out DIR]

Each trains for the same processor time on one thread, in the sizes of its own day: the pace of a
few steps tells how many steps that is, and the schedule ends with them. Each runs on NumPy or on
day 38's kernels, whichever is faster. RATES are chosen on the beginning of the held-out text, and
all are scored on a part of its second half. One seed and few rates: an orientation, no verdict.
One thread takes about seven minutes (OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1).
"""

import argparse
import contextlib
import functools
import json
import time
from pathlib import Path

import numpy as np

from days.day35 import job
from days.harness import ROOT, kernels, machine, prepare, print_table, progress, write_atomically
from llm.data.batches import random_windows
from llm.data.text import load
from llm.layers.recurrent import GRU, RNN
from llm.models import gru, neural_ngram
from llm.models.ngram import NGram
from llm.tokens.chars import CharTokenizer
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.recurrent import streams, train
from llm.train.schedule import WarmupCosine

RATES = {"GPT": (.003, .0067), "day 16's network": (.3,), "GRU": (.006, .0135),
         "tanh": (.0067, .0152)}
ORDER, SEED = 7, 1


def gpt(ids, tokenizer, rate, steps, rng):
    """Day 35's recipe over characters, and how it reads a text: nats of each character."""
    recipe = job.Recipe(rate=rate, T=64)
    state = job.assemble(recipe, tokenizer, rng)
    fit(state.model.named_parameters(), lambda batch: (state.model.loss(*batch), batch[1].size),
        random_windows(ids, recipe.B, recipe.T, rng), state.optimizer,
        WarmupCosine(rate, min(recipe.warmup, steps)), steps=steps, clip=recipe.clip)
    return state.model, functools.partial(job.evaluate, state)


def day16(ids, tokenizer, rate, steps, rng):
    model = neural_ngram.NeuralNGram(tokenizer.vocab_size, 8, 16, 256, rng)
    neural_ngram.train(model, neural_ngram.draws(ids, 8, 64, rng),
                       WarmupCosine(rate, max(1, steps // 10)), steps=steps)
    return model, lambda text: -float(neural_ngram.log_probabilities(model, text).mean())


def recurrent(layer, ids, tokenizer, rate, steps, rng):
    model = gru.RecurrentLM(tokenizer.vocab_size, 128, 1, rng, layer)
    train(model, streams(ids[int(rng.integers(len(ids) // 2)):], 32, 64),
          AdamW(model.named_parameters(), decay=0.0), WarmupCosine(rate, max(1, steps // 10)),
          steps=steps)
    return model, lambda text: -float(gru.log_probabilities(model, text).mean())


MODELS = {"GPT": gpt, "day 16's network": day16,
          "GRU": functools.partial(recurrent, functools.partial(GRU, keep=0.0)),
          "tanh": functools.partial(recurrent, RNN)}


def pace(make, some):
    """Processor seconds of a step, with what is done once taken out."""
    seconds = []
    for steps in (2, 2 + some):                            # the first compiles and loads
        began = time.process_time()
        make(steps, np.random.default_rng(SEED))
        seconds.append(time.process_time() - began)
    began = time.process_time()
    make(2, np.random.default_rng(SEED))
    return max(seconds[1] - (time.process_time() - began), 1e-6) / some


def measure(seconds, size):
    """A record of every model; size: characters to choose on, half of those that are scored."""
    corpus = load("shakespeare")
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, half = tokenizer.encode(corpus.train), len(corpus.validation) // 2
    choose = tokenizer.encode(corpus.validation[:size])
    report = tokenizer.encode(corpus.validation[half:half + 5 * size])
    record = {"seconds": seconds, "chosen_on": len(choose), "scored_on": len(report), "models": {}}
    with progress(sum(map(len, RATES.values())), "training") as tick:
        for name, rates in RATES.items():
            make = functools.partial(MODELS[name], ids, tokenizer)
            paces = {}
            for way, context in (("NumPy", contextlib.nullcontext), ("kernels", kernels)):
                with context():
                    paces[way] = pace(functools.partial(make, rates[0]), 200 if "16" in name else 8)
            way = min(paces, key=paces.get)
            steps, grid = max(2, int(seconds / paces[way])), []
            with kernels() if way == "kernels" else contextlib.nullcontext():
                for rate in rates:
                    began = time.process_time()
                    model, nats = make(rate, steps, np.random.default_rng(SEED))
                    grid.append([rate, nats(choose), nats(report), time.process_time() - began])
                    tick(1, f"{name} {rate:.2g} {grid[-1][2]:.3f}")
            best = min(grid, key=lambda row: row[1])
            record["models"][name] = {
                "parameters": model.count_parameters(), "way": way, "steps": steps, "grid": grid,
                "rate": best[0], "nats": best[2], "cpu_seconds": best[3]}
    began = time.process_time()
    counted = NGram.fit(ids, ORDER, tokenizer.vocab_size)
    fitted = time.process_time() - began
    record["counting"] = {"order": ORDER, "numbers": counted.size, "cpu_seconds": fitted,
                          "nats": -float(counted.log_probabilities(report)[1:].mean())}
    return {**record, "machine": machine()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="half a second each")
    parser.add_argument("--seconds", type=float, default=40.0, help="of processor time each (40)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "equal_time", metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    record = measure(0.5, 1000) if options.fast else measure(options.seconds, 20_000)
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(options.out / "equal_time.json", text.encode())
    print_table([["model", "parameters", "steps", "rate", "nats"], *(
        [name, f"{m['parameters']:,}", f"{m['steps']:,}", f"{m['rate']:.2g}", f"{m['nats']:.3f}"]
        for name, m in record["models"].items()),
        [f"counting, order {ORDER}", f"{record['counting']['numbers']:,}", "", "",
         f"{record['counting']['nats']:.3f}"]])


if __name__ == "__main__":
    main()
