"""Day 40 · One model of a scaling study: its size, its text, its training, its loss."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from days.harness import kernels, say
from llm.data.batches import sliding_windows
from llm.data.stories import GRAMMAR, stories
from llm.data.text import load_or_default
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig, count_flops, make_block
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import WarmupCosine

T = 184                                    # tokens a window, and a step: no story is longer
V = 896                                    # bytes and byte pairs, at most
SHAPES = {8: (2, 1), 12: (2, 1), 16: (2, 1), 24: (2, 1), 32: (2, 2), 48: (2, 2), 64: (3, 2),
          96: (3, 3), 128: (4, 4), 192: (4, 6), 256: (6, 8), 384: (6, 12)}          # C: (L, H)


@dataclass(frozen=True)
class Data:
    """A text in byte pairs: what is learned from, and two held-out parts.

    train (n,) int32; starts: where a window begins. choose and report: lists of (inputs,
    targets), each (·, T), −100 where nothing is asked. tokens: how many there are for each
    character. floor: nats per token of `report` that no model can beat, where it is known.
    """

    name: str
    train: np.ndarray
    starts: np.ndarray
    choose: list
    report: list
    tokens: float
    floor: float | None


@functools.cache
def data(name, n=32_000, held_out=300):
    """`stories`: n of them, none told twice; or the text called `name`."""
    return tales(n, held_out) if name == "stories" else book(name, 200 * held_out)


def tales(n, held_out):
    """Windows begin where a story begins, so that each token has all that its story tells before
    it. Held-out stories stand one in a row, so their exact log-probability is the floor."""
    told = stories(n, np.random.default_rng([40, 0])).splitlines(keepends=True)
    tokenizer = FastBPE.train("".join(told[:4000]), V)
    ids = tokenizer.encode("".join(told)).astype(np.int32)
    ends = np.flatnonzero(ids == tokenizer.encode("\n")[0]) + 1
    starts = np.concatenate([[0], ends[:-1]])
    new = stories(3 * held_out, np.random.default_rng([40, 1])).splitlines(keepends=True)
    rows = [(story, tokenizer.encode(story)) for story in new if story not in set(told)]
    rows = [(story, row) for story, row in rows if len(row) <= T + 1][:2 * held_out]
    report = rows[held_out:]
    floor = -sum(GRAMMAR.log_probability(story) for story, _ in report)
    count = sum(len(row) - 1 for _, row in report)      # the first token is given, see `given`
    given = -sum(math.log(first_probability(story)) for story, _ in report)
    return Data("stories", ids, starts[starts + T < len(ids)],
                *(batches([row for _, row in part]) for part in (rows[:held_out], report)),
                len(ids) / len("".join(told)), (floor - given) / count)


def first_probability(story):
    """The grammar's probability of a story's first token, which the model is given."""
    return {"Once": 5 / 8, "There": 2 / 8, "Long": 1 / 8}[story.split()[0].strip(",")]


def batches(rows, size=32):
    """Rows of ids, one story each, as padded (inputs, targets)."""
    out = []
    for first in range(0, len(rows), size):
        part = rows[first:first + size]
        inputs = np.zeros((len(part), T), np.int32)
        targets = np.full((len(part), T), -100, np.int32)
        for i, row in enumerate(part):
            inputs[i, :len(row) - 1], targets[i, :len(row) - 1] = row[:-1], row[1:]
        out.append((inputs, targets))
    return out


def book(name, characters):
    """A text in one piece, cut into windows that do not overlap."""
    corpus = load_or_default(name, say)
    tokenizer = FastBPE.train(corpus.train[:2_000_000], V)
    ids = tokenizer.encode(corpus.train).astype(np.int32)
    halves = corpus.validation[:characters], corpus.validation[characters:2 * characters]
    parts = [list(sliding_windows(tokenizer.encode(half).astype(np.int32), 32, T, T // 2))
             for half in halves]
    return Data(name, ids, np.arange(0, len(ids) - T, T), *parts,
                len(ids) / len(corpus.train), None)


def config(C):
    """The shape of the model that is C channels wide."""
    L, H = SHAPES[C]
    return GPTConfig(V=V, T=T, C=C, L=L, H=H, rotary=True)


def rate_of(C, steps):
    """The learning rate: the rule that experiments/scaling.py found through its grids."""
    return float(f"{0.162 * C ** -0.968 * steps ** 0.0227:.4g}")


def steps_of(C, budget):
    """How many steps, of T tokens each, a budget of FLOPs pays for."""
    return max(1, round(budget / (3 * count_flops(config(C)) * T)))


def windows(text, rng, few=None):
    """Yield (inputs, targets), each (1, T), for ever: all windows in a random order, then again.

    few: only so many of them, drawn once; each is met again in every round.
    """
    starts = rng.permutation(text.starts)[:few]
    while True:
        for start in rng.permutation(starts):
            row = text.train[None, start:start + T + 1]
            yield row[:, :-1].copy(), row[:, 1:].copy()


def train(text, C, rate, steps, seed, few=None):
    """Train a model of width C for `steps` windows -> (model, what fit returns)."""
    model = GPT(config(C), np.random.default_rng([seed, 0]),
                functools.partial(make_block, std=1 / math.sqrt(C)))
    parameters = model.named_parameters()
    with kernels():
        return model, fit(parameters, lambda batch: (model.loss(*batch), batch[1].size),
                          windows(text, np.random.default_rng([seed, 1]), few),
                          AdamW(parameters, betas=(0.9, 0.99), decay=0.01),
                          WarmupCosine(rate, max(10, steps // 50)), steps=steps, clip=1.0)


def nats(model, part):
    """Mean nats per token of a held-out part."""
    total, count = 0.0, 0
    with kernels(), no_grad():
        for inputs, targets in part:
            kept = int((targets != -100).sum())
            total += float(model.loss(inputs, targets).data) * kept
            count += kept
    return total / count
