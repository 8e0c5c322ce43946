"""Day 42 · Past the window with three models: what each policy costs, and is there a sink?

    python experiments/window.py [--models 3] [--fast] [--json] [--out DIR]

The reader's GPT of day 35 and two others by the same recipe from other seeds (a minute of training
each, then kept), each read past its window as in days/day42/run.py: the same pieces of unseen
text, the same targets, four policies at five sizes of cache. Last a text made to need its window:
one passage over and over, so that all that is asked can be read off some way back.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from days.day35.trained import Recipe, trained
from days.day42 import policies
from days.day42.run import past_table
from days.harness import (
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)
from llm.generate.architecture import gpt_weights


def one(seed, fast, count, targets):
    """The policies on the model that the recipe makes from this seed."""
    recipe = replace(Recipe.small() if fast else Recipe(), seed=seed)
    reader = trained(recipe=recipe)
    arch, weights = gpt_weights(reader.model.state_dict(), reader.config)
    ids = np.array(reader.tokenizer.encode(reader.corpus.validation))
    parts = policies.pieces(ids[len(ids) // 2:], count, arch.T + targets)
    sizes = (8, arch.T) if fast else (8, 16, 32, 64, arch.T)
    past, controls = policies.summed(*policies.beyond(reader.model, arch, weights, parts, sizes))
    sink = np.mean([policies.attention_on(arch, weights, part[:arch.T], 0) for part in parts], 0)
    repeats = []
    for length in (arch.T // 3, 3 * arch.T // 4):          # the last copy begins so far back
        again = [np.resize(part[:length], len(part)) for part in parts]
        found, _ = policies.summed(
            *policies.beyond(reader.model, arch, weights, again, (arch.T,)))
        repeats.append([length, *found[0][1:]])
    return {"seed": seed, "past": past, "controls": controls, "sink": sink.tolist(),
            "repeats": repeats}


def show(record):
    for model in record["models"]:
        print_table(past_table(model["past"]), f"model {model['seed']}")
        for name, (mean, error) in model["controls"].items():
            print(f"{name}: {mean:+.3f} ± {error:.3f}")
        print_table([["passage", *past_table(model["past"])[0][1:]]]
                    + past_table(model["repeats"])[1:], "one passage over and over, full window")
        print(f"attention on the first token: {np.mean(model['sink']):.4f}, at most "
              f"{np.max(model['sink']):.4f} in one head")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3, help="how many seeds (3)")
    parser.add_argument("--fast", action="store_true", help="tiny models, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "window", metavar="DIR")
    options = parser.parse_args()
    if options.models < 1:
        parser.error("--models must be at least 1")
    count, targets = (3, 40) if options.fast else (12, 160)
    prepare(options.out)
    record = plain({"models": [one(seed, options.fast, count, targets)
                               for seed in range(options.models)],
                    "targets": targets, "fast": options.fast, "machine": machine()})
    write_atomically(options.out / "window.json",
                     (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    show(record)
    say(f"window.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"window: {error}")
        sys.exit(2)
