"""Day 56 · Your own pairs: a reward model from a file, and how it does on pairs held out."""

from dataclasses import replace

import numpy as np

from days.day56 import study
from days.harness import UsageError, kernels, progress, say
from llm.align.pairs import encode_pairs
from llm.data.preferences import Pair, held_out
from llm.functions.margins import bradley_terry
from llm.tune.jsonl import read_jsonl


def read(path):
    """A JSONL file of prompt, chosen and rejected -> ([Pair], how many had two equal answers).

    Raises TextError with the line's number where a line is no such object.
    """
    rows = read_jsonl(path, "preference")
    found = [Pair(row.prompt, row.chosen, row.rejected) for row in rows
             if row.chosen != row.rejected]
    return found, len(rows) - len(found)


def divide(found):
    """(train, test) by the prompt's hash; the last tenth of the prompts where that leaves none."""
    test = [pair for pair in found if held_out(pair.prompt)]
    if not test or len(test) == len(found):
        prompts = list(dict.fromkeys(pair.prompt for pair in found))
        last = set(prompts[-max(1, len(prompts) // 10):])
        test = [pair for pair in found if pair.prompt in last]
    chosen = {pair.prompt for pair in test}
    return [pair for pair in found if pair.prompt not in chosen], test


def measure(path, start, settings, seed, result):
    """Train on the file's pairs and judge the held-out ones; a Result with `own` filled in."""
    found, equal = read(path)
    first = start()
    train, test = (encode_pairs(first.tokenizer, part, first.config.T) for part in divide(found))
    left_out = train[1] + test[1]
    if equal or left_out:
        say(f"left out: {equal} pairs of equal answers, {left_out} longer than "
            f"{first.config.T} tokens")
    if not train[0] or not test[0]:
        raise UsageError(f"{path}: {len(train[0])} pairs to learn from and {len(test[0])} to "
                         "judge are too few: give pairs for two prompts at least")
    settings = replace(settings, B=min(settings.B, len(train[0])))
    with progress(settings.steps, "training the reward model") as tick:
        model, run = study.train(start, train[0], settings, seed, tick)
    with kernels():
        margins = (model.score([chosen for chosen, _ in test[0]])
                   - model.score([rejected for _, rejected in test[0]]))
    return result(len(train[0]), 1.0, 0, 2, settings.steps, 1, [], [], [], [], [], 0.0, [],
                  0.0, [], [], [],
                  {"train": len(train[0]), "test": len(test[0]), "left_out": left_out,
                   "equal": equal, "agreement": float(np.mean((np.sign(margins) + 1) / 2)),
                   "nats": float(bradley_terry(margins)[0]), "losses": run.losses})
