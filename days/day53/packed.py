"""Day 53 · Padded and packed batches side by side: how full they are, and what a step costs."""

import time

import numpy as np

from days.day53.tuned import copy_of
from days.harness import kernels
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.tune.chat import conversation, example
from llm.tune.packing import pack_attention
from llm.tune.sft import IGNORE, packed_batches, padded_batches, sft_loss


def compare(start, train, steps, seed):
    """([tokens of all examples, the assistant's], rows of a table: how, tokens a row, …).

    Both get the same number of examples a step, as near as whole rows allow.
    """
    T, B = start.config.T, 8
    examples = [example(start.tokenizer, conversation(task)) for task in train]
    counts = [sum(len(ids) for ids, _ in examples), sum(int(mask.sum()) for _, mask in examples)]
    many = round(B * T / (counts[0] / len(examples)))
    model = copy_of(start)
    borders, rng = pack_attention(model), np.random.default_rng(seed)
    rows = []
    for how, batches in (("padded", padded_batches(examples, many, T, rng)),
                         ("packed", packed_batches(examples, B, T, rng))):
        rows.append([how, *steps_of(model, borders, batches, steps)])
    return counts, rows


def steps_of(model, borders, batches, steps):
    """[tokens a row, share filled, answer tokens a step, ms a step, answer tokens a second]."""
    drawn = [next(batches) for _ in range(steps)]
    optimizer = AdamW(model.named_parameters())
    real = [int((x != 0).sum()) if index is None else int((index >= 0).sum())
            for x, _, index in drawn]
    answers = sum(int((y != IGNORE).sum()) for _, y, _ in drawn)
    train = lambda n: fit(model.named_parameters(), sft_loss(model, borders), iter(drawn[:n]),
                          optimizer, Constant(1e-5), steps=n)
    with kernels():
        train(min(steps, 2))
        begun = time.perf_counter()
        train(steps)
        seconds = time.perf_counter() - begun
    places = sum(x.size for x, _, _ in drawn)
    return [places / sum(len(x) for x, _, _ in drawn), sum(real) / places, answers / steps,
            1000 * seconds / steps, answers / seconds]


def table(packing):
    """How full the rows are, and what that is worth."""
    rows = [["rows", "tokens a row", "filled", "answer tokens a step", "ms a step",
             "answer tokens a second"]]
    return rows + [[how, f"{T:.0f}", f"{100 * full:.0f} %", f"{n:.0f}", f"{ms:.1f}", f"{rate:.0f}"]
                   for how, T, full, n, ms, rate in packing]
