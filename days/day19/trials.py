"""Day 19 · The trials, each a few runs of the lab: schedules, range, warmup, clipping."""

import math

import numpy as np

from days.day19.bowl import MAKERS, rates_of
from days.day19.lab import averaged
from llm.train.schedule import Constant, WarmupCosine, exponential_range, suggest


def nats(done):
    """The mean over the seeds."""
    return float(np.mean([trial.nats for trial in done]))


def sweep(lab, bar, peaks, warmup, steps):
    """Each schedule at each of its peaks, and what was seen of it.

    Returns rows [name, peak, nats]; {name: [best peak, nats]}; the most that two seeds of one row
    differ by; {(name, peak): trials}.
    """
    done = {(name, peak): lab.several(bar, MAKERS[name](peak, warmup), steps)
            for name, tried in peaks.items() for peak in tried}
    rows = [[name, peak, nats(trials)] for (name, peak), trials in done.items()]
    best = {name: min((row[1:] for row in rows if row[0] == name), key=lambda row: row[1])
            for name in peaks}
    spread = max(abs(a.nats - b.nats) for trials in done.values() for a in trials for b in trials)
    return rows, best, spread, done


def range_runs(lab, bar, lengths):
    """Rows [steps, rate of the lowest average of each seed, suggestion of each seed], and curves.

    Rows of the curves: steps, rates, averaged losses of each seed.
    """
    rows, curves = [], []
    for steps in lengths:
        schedule = exponential_range(1e-5, 3.0)
        rates, done = rates_of(schedule, steps), lab.several(bar, schedule, steps)
        uses, lowest = zip(*(suggest(rates, trial.losses) for trial in done))
        rows.append([steps, lowest, uses])
        curves.append([steps, rates, [averaged(trial.losses) for trial in done]])
    return rows, curves


def curvatures(lab, rate, marks, sizes):
    """Rows [steps done, λ_max] along a run; rows [size of the last layer, λ_max, loss] at 0."""
    path = []

    def look(t, model):
        if t in marks:
            path.append([t, lab.curvature(model)])

    lab.run(Constant(rate), max(marks) + 1, before=look)
    return path, [[size, lab.curvature(lab.model(last=size, seed=lab.seed)),
                   lab.run(Constant(rate), 1, last=size).losses[0]] for size in sizes]


def clipped_throughout(lab, bar, warmup, steps, known):
    """Rows [kind, limit or None, usual norm, share of steps clipped, nats], cosine."""
    rows = []
    for kind, peak, limits in (("plain", 1.4, (math.inf, 0.1)),
                               ("AdamW", 0.02, (math.inf, 0.1, 0.01))):
        for limit in limits:
            done = known["cosine", peak] if (kind, limit) == ("AdamW", math.inf) else lab.several(
                bar, WarmupCosine(peak, warmup), steps, limit=limit, plain=kind == "plain")
            norms = np.array([trial.norms for trial in done])
            rows.append([kind, limit if limit < math.inf else None, float(np.median(norms)),
                         float((norms > limit).mean()), nats(done)])
    return rows


def spikes(lab, bar, first, after, limit):
    """Three bad batches from step `first` on, six layers; `after` steps follow them.

    Rows [kind, limit or None, usual norm, largest of the three, mean loss of the 20 steps before,
    of the next 10, of the last 20]; {name: losses} of plain steps, first seed.
    """
    rows, curves, at = [], {}, first - 1                 # `at` is the index of the first of them
    for kind, rate in (("plain", 0.3), ("AdamW", 0.005)):
        for most in (math.inf, limit):
            done = lab.several(bar, Constant(rate), first + 2 + after, layers=6, limit=most,
                               bad=range(first, first + 3), plain=kind == "plain")
            norms, losses = (np.array([getattr(trial, what) for trial in done])
                             for what in ("norms", "losses"))
            rows.append([kind, limit if most == limit else None, float(np.median(norms[:, :at])),
                         *(float(x) for x in (norms[:, at:at + 3].max(1).mean(),
                                              losses[:, at - 20:at].mean(),
                                              losses[:, at + 3:at + 13].mean(),
                                              losses[:, -20:].mean()))])
            if kind == "plain":
                curves["no clipping" if most > limit else "clipped"] = losses[0]
    return rows, curves
