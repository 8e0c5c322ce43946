"""Day 18 · Bowls over a matrix: curvatures along the entries, turned, and one for each entry."""

import numpy as np

from llm.grad.tensor import Tensor
from llm.train.adam import AdamW, RMSProp
from llm.train.muon import Muon
from llm.train.sgd import SGD

KINDS = {"plain steps": SGD, "momentum 0.9": lambda p: SGD(p, 0.9), "RMSProp": RMSProp,
         "Adam": lambda p: AdamW(p, decay=0.0), "Muon": lambda p: Muon(p, decay=0.0)}
NAMES = "along", "turned", "own"
SIZE = 8, 6                        # of the matrix X
FACTOR = 1.5                       # between neighbouring rates


def bowls(condition, seed, steps, fast=False):
    """Rows [kind, bowl, best rate, is it inside the grid, share of the loss left, curve].

    along: entry (i, j) has the curvature aᵢbⱼ, a and b from 1 down to 1/√condition. turned: the
    same bowl and the same start, seen from rotated rows and columns. own: each entry has a
    curvature of its own, drawn between 1/condition and 1. The rate falls linearly to 0; each
    optimizer has the best of a sweep. A run whose loss rises tenfold on the way counts as lost.
    """
    rng, rows = np.random.default_rng(seed), []
    a, b = (np.geomspace(1, condition**-0.5, n) for n in SIZE)
    start = rng.standard_normal(SIZE)
    q, r = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in SIZE)
    own = condition ** -rng.random(SIZE)
    full_a, full_b = q @ np.diag(a) @ q.T, r @ np.diag(b) @ r.T
    slopes = {"along": (lambda x: a[:, None] * x * b, start),
              "turned": (lambda x: full_a @ x @ full_b, q @ start @ r.T),
              "own": (lambda x: own * x, start)}
    rates = 8.0 * FACTOR ** -np.arange(0, 18, 3 if fast else 1)
    for kind, make in KINDS.items():
        for name in NAMES:
            runs = [(descent(make, *slopes[name], rate, steps), rate) for rate in rates]
            curve, rate = min(runs, key=lambda run: run[0][-1])
            rows.append([kind, name, float(rate), bool(rates[-1] < rate < rates[0]), curve[-1],
                         [float(f"{x:.4g}") for x in curve[::5]]])
    return rows


def descent(make, slope, start, rate, steps):
    """The loss ½ Σ X∘slope(X), over that of the start, after 0 … `steps` steps."""
    x = Tensor(start.copy(), requires_grad=True)
    optimizer, curve = make({"x": x}), []
    with np.errstate(over="ignore", invalid="ignore"):       # rates too high are part of a sweep
        for step in range(steps + 1):
            x.grad = slope(x.data)
            curve.append(0.5 * float((x.data * x.grad).sum()))
            optimizer.step(rate * (1 - step / steps))
    lost = not max(curve) <= 10 * curve[0]                   # also where there is a NaN
    return [np.inf if lost else c / curve[0] for c in curve]
