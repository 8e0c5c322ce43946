"""Day 18 · A race: the window model with every optimizer at the best of its own rates."""

import math
import statistics
from dataclasses import dataclass

import numpy as np

from llm.models.neural_ngram import NeuralNGram, draws, log_probabilities, train
from llm.train.adam import AdamW, RMSProp
from llm.train.muon import Muon
from llm.train.sgd import SGD

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64
CONVERGING = 15 / 8, -10 / 8, 3 / 8          # slope and bend 0 at s = 1: this iteration converges
KINDS = {                                    # name: (optimizer, the rates its grid grows from)
    "plain steps": (SGD, (0.4, 0.6, 0.9)),
    "momentum 0.9": (lambda p: SGD(p, 0.9), (0.05, 0.075, 0.11)),
    "RMSProp": (RMSProp, (0.003, 0.0045, 0.0067)),
    "Adam": (lambda p: AdamW(p, decay=0.0), (0.0045, 0.0067, 0.01)),
    "AdamW, decay 0.1": (lambda p: AdamW(p, decay=0.1), (0.0045, 0.0067, 0.01)),
    "Muon": (lambda p: Muon(p, decay=0.0), (0.0045, 0.0067, 0.01)),
    "Muon, converged": (lambda p: Muon(p, decay=0.0, steps=16, coefficients=CONVERGING),
                        (0.0045, 0.0067, 0.01)),
}
COMPARED = [("momentum 0.9", "plain steps"), ("Adam", "momentum 0.9"), ("Adam", "RMSProp"),
            ("AdamW, decay 0.1", "Adam"), ("Muon", "Adam"), ("Muon, converged", "Muon")]
FACTOR = 1.5                                 # between neighbouring rates of a grid
T99 = {1: 63.66, 2: 9.925, 3: 5.841, 4: 4.604}       # Student's t, two-sided, 99 %


@dataclass(frozen=True)
class Texts:
    """ids: to learn from; two pieces of unseen text, one to choose rates on, one to report on."""

    vocab_size: int
    seen: np.ndarray
    choose: np.ndarray
    report: np.ndarray


def learn(texts, make, rate, seed, steps):
    """Train one model; nats per character of (seen, choose, report), ∞ where it exploded."""
    model = NeuralNGram(texts.vocab_size, CONTEXT, CHANNELS, HIDDEN,
                        np.random.default_rng([seed, 0]))
    optimizer = make(model.named_parameters())
    batches = draws(texts.seen, CONTEXT, BATCH, np.random.default_rng([seed, 1]))
    with np.errstate(over="ignore", invalid="ignore"):       # rates too high are part of a grid
        losses = train(model, batches, rate, steps=steps,
                       update=lambda _, rate: optimizer.step(rate))
        unseen = [-float(log_probabilities(model, ids).mean())
                  for ids in (texts.choose, texts.report)]
    return [x if math.isfinite(x) else math.inf for x in (float(np.mean(losses[-50:])), *unseen)]


def race(texts, make, first, steps, choose, report, tick, grow=6):
    """One optimizer's row: the grid on the first piece, fresh seeds at its best on the second.

    The grid begins with the rates `first` and grows until the best of them is not at its edge.
    """
    def score(rate):
        found = []
        for seed in choose:
            found.append(learn(texts, make, rate, seed, steps)[1])
            tick()
        return statistics.mean(found)

    grid = {rate: score(rate) for rate in first}
    for _ in range(grow):
        best = min(grid, key=grid.get)
        if min(grid) < best < max(grid):
            break
        new = float(f"{best * FACTOR if best == max(grid) else best / FACTOR:.2g}")
        grid[new] = score(new)
    best = min(grid, key=grid.get)
    ends = []
    for seed in report:
        ends.append(learn(texts, make, best, seed, steps))
        tick()
    seen, _, nats = (list(column) for column in zip(*ends))
    return {"rate": best, "inside": min(grid) < best < max(grid),
            "grid": sorted([rate, x if math.isfinite(x) else None] for rate, x in grid.items()),
            "nats": nats, "mean": statistics.mean(nats), "spread": statistics.stdev(nats),
            "seen": statistics.mean(seen)}


def compare(rows, this, that):
    """[what, difference in nats, half of its 99 % interval, told apart?], seed by seed."""
    apart = [x - y for x, y in zip(rows[this]["nats"], rows[that]["nats"], strict=True)]
    half = T99[len(apart) - 1] * statistics.stdev(apart) / math.sqrt(len(apart))
    mean = statistics.mean(apart)
    return [f"{this} less {that}", mean, half, abs(mean) > half]
