"""Day 40 · From the runs of experiments/scaling.py to laws with their intervals."""

import functools
import statistics
from collections import defaultdict

import numpy as np

from days.day40 import models
from llm.models.gpt import count_flops, count_parameters
from llm.train.scaling import Law, bootstrap, effective, fit_law, parabola

DRAWS = 400
FEWEST = 600                     # steps: a shorter run has hardly left its warmup, see the note
NAMES = ("E", "A", "B", "alpha", "beta")


def law_of(record):
    """A Law from its dict."""
    return Law(**record)


def swept(runs, text):
    """The runs of the sweep on a text that are long enough to count."""
    return [r for r in runs if r["part"] == "sweep" and r["text"] == text
            and r["steps"] >= FEWEST]


def columns(runs):
    """N, D, L of runs, as arrays."""
    return tuple(np.array([run[k] for run in runs], np.float64) for k in ("N", "D", "report"))


def interval(values):
    """The middle 95 % of bootstrapped values."""
    return [float(x) for x in np.percentile(values, [2.5, 97.5])]


def fitted(N, D, L, draws=DRAWS, growth=None):
    """The law through runs, with 95 % intervals; share: the exponent of the best N in the budget.

    Returns (record, law, fits): a dict for the JSON, the Law, the bootstrap's Laws.
    """
    law = fit_law(N, D, L)
    fits = bootstrap(fit_law, (N, D, L), np.random.default_rng(40), draws)
    ranges = {name: interval([getattr(f, name) for f in fits]) for name in NAMES}
    ranges["share"] = interval([share(f, growth) for f in fits])
    return ({"law": vars(law), "share": share(law, growth), "runs": len(L), "intervals": ranges},
            law, fits)


def share(law, growth=None):
    """The exponent of the best N in the budget, β/(α + γβ), where FLOPs for a token ∝ N^γ.

    growth: γ, by default that of these models, whose attention costs more than its share of N.
    """
    return law.beta / (law.alpha + (flops_growth() if growth is None else growth) * law.beta)


def flops_growth(table=1):
    """γ: how the FLOPs for a token grow with N over the widths of the sweep, as N^γ.

    table: 0 where N is counted without the embedding table.
    """
    shapes = [models.config(C) for C in models.SHAPES if C <= 64]
    N = [count_parameters(shape) - (1 - table) * shape.V * shape.C for shape in shapes]
    return float(np.polyfit(np.log(N), np.log([count_flops(shape) for shape in shapes]), 1)[0])


def foretell(law, fits, columns_, C, budget, rng):
    """What one run of width C on a budget will reach: (nats, 95 %).

    The interval holds two doubts: which law (each fit's own answer), and by how much a single run
    leaves its law (a residual of a run that was fitted, drawn at random).
    """
    N, D, _ = size_on(C, budget)
    off = columns_[2] / law.loss(*columns_[:2])
    guesses = [float(fit.loss(N, D)) * rng.choice(off) for fit in fits]
    return float(law.loss(N, D)), interval(guesses)


def predict(runs, text, budget, floor=None, draws=DRAWS):
    """The law's best width at a budget and what it will reach: written down before the run.

    Where the floor is known, also what the law through the same runs says that has it for its E.
    """
    data = columns(swept(runs, text))
    _, law, fits = fitted(*data, draws)
    told = {C: float(law.loss(*size_on(C, budget)[:2])) for C in models.SHAPES}
    C = min(told, key=told.get)
    nats, ends = foretell(law, fits, data, C, budget, np.random.default_rng(40))
    told = {"text": text, "budget": budget, "C": C, "steps": models.steps_of(C, budget),
            "predicted": round(nats, 5), "interval": [round(x, 5) for x in ends],
            "widths": {str(c): round(x, 5) for c, x in told.items()}, "from": len(data[0])}
    if floor is not None:
        law, fits = bounded(*data, floor, draws)
        nats, ends = foretell(law, fits, data, C, budget, np.random.default_rng(40))
        told["bounded"] = {"predicted": round(nats, 5), "interval": [round(x, 5) for x in ends]}
    return told


def bounded(N, D, L, floor, draws=DRAWS):
    """The law whose E is a floor that is known, and the bootstrap's fits."""
    fit = functools.partial(fit_law, E=floor)
    return fit(N, D, L), bootstrap(fit, (N, D, L), np.random.default_rng(40), draws)


def cells(runs):
    """{budget: {N: [losses of its seeds]}}."""
    out = defaultdict(lambda: defaultdict(list))
    for run in runs:
        out[run["budget"]][run["N"]].append(run["report"])
    return out


def noise(runs):
    """Standard deviation of a run's relative loss over seeds, pooled; and the number of cells."""
    groups = [losses for sizes in cells(runs).values() for losses in sizes.values()
              if len(losses) > 1]
    total = sum(sum((x / statistics.mean(g) - 1) ** 2 for x in g) for g in groups)
    return (total / sum(len(g) - 1 for g in groups)) ** 0.5, len(groups)


def valleys(mean):
    """For each budget the lowest point of a parabola through the sizes near the best.

    mean: {budget: {N: loss}}. Rows: budget, N, nats, inside. Only the sizes within a factor of 3
    of the lowest are used, at least three: farther off the valley is no parabola.
    """
    rows = []
    for budget, sizes in sorted(mean.items()):
        best = min(sizes, key=sizes.get)
        near = [N for N in sorted(sizes) if 1 / 3 < N / best < 3]
        if len(near) >= 3:
            rows.append([budget, *parabola(near, [sizes[N] for N in near])])
    return rows


def slope(rows):
    """The exponent of N in the budget: a line through the lowest points that lie inside."""
    F, N = np.log([[r[0], r[1]] for r in rows if r[3]]).T
    return float(np.polyfit(F, N, 1)[0])


def valley_line(runs, draws=DRAWS):
    """The valleys of the sweep and their slope, with what the noise of a run does to it."""
    groups, sd = cells(runs), noise(runs)[0]
    mean = {b: {N: statistics.mean(g) for N, g in sizes.items()} for b, sizes in groups.items()}
    rng, slopes = np.random.default_rng(40), []
    for _ in range(draws):
        again = valleys({b: {N: mean[b][N] * (1 + sd * rng.normal() / len(g) ** 0.5)
                             for N, g in sizes.items()} for b, sizes in groups.items()})
        if sum(row[3] for row in again) > 1:              # else there is no line
            slopes.append(slope(again))
    rows = valleys(mean)
    return {"rows": rows, "slope": slope(rows), "interval": interval(slopes)}


def repeated(runs, text, law):
    """Repetition against one reading: rows [k, nats, spread, nats of one reading, its spread];
    and the R of `effective` that fits the first four rows of repetition best."""
    rows = defaultdict(lambda: [[], []])
    for run in runs:
        if run["part"] in ("repeat", "once") and run["text"] == text:
            rows[run["k"]][run["part"] == "once"].append(run["report"])
    out = [[k, *(f(v) if len(v) > 1 else None for v in both
                 for f in (statistics.mean, statistics.stdev))] for k, both in sorted(rows.items())]
    D = max(r["D"] for r in runs if r["part"] == "repeat" and r["text"] == text)
    k, L = np.array([row[:2] for row in out if row[0] <= 8], float).T
    candidates = np.geomspace(0.1, 1000, 401)
    errors = [float(np.sum((L - L[0] - law.B * (effective(D / k, k, R) ** -law.beta
                                                - D ** -law.beta)) ** 2)) for R in candidates]
    return {"rows": out, "D": D, "R": float(candidates[int(np.argmin(errors))])}


def found(record):
    """All that the note says of the sweep, from the runs alone."""
    runs, out = record["runs"], {}
    for text in sorted({run["text"] for run in runs if run["part"] == "sweep"}):
        rows = swept(runs, text)
        budgets = sorted({run["budget"] for run in rows})
        fit, law, _ = fitted(*columns(rows))
        N, D, L = columns(rows)
        narrow = N - np.array([models.V * run["C"] for run in rows])          # without the table
        without = {name: vars(fit_law(*columns([r for r in rows if r["budget"] != b])))
                   for name, b in (("smallest", budgets[0]), ("largest", budgets[-1]))}
        far = [[r["C"], r["N"], r["D"], r["steps"], r["report"], float(law.loss(r["N"], r["D"]))]
               for r in runs if r["part"] == "giants" and r["text"] == text]
        out[text] = {**fit, "noise": noise(rows), "without": without, "giants": far,
                     "valleys": valley_line([r for r in runs if r["part"] == "sweep"
                                             and r["text"] == text]),
                     "narrow": fitted(narrow, D, L, 100, flops_growth(table=0))[0],
                     **record["texts"][text]}
        if any(run["part"] == "repeat" and run["text"] == text for run in runs):
            out[text]["repeated"] = repeated(runs, text, law)
        out[text]["predicted"] = [
            {**told, "reached": [r["report"] for r in runs if r["part"] == "predict"
                                 and r["text"] == text]}
            for told in record.get("predictions", []) if told["text"] == text]
    return out


def size_on(C, flops):
    """(N, D, FLOPs) of width C on a budget; a whole number of steps, so nearly all of it."""
    shape = models.config(C)
    D = models.steps_of(C, flops) * models.T
    return count_parameters(shape), D, 3 * count_flops(shape) * D
