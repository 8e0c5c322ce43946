"""Day 18 · Bowls for this day's optimizers: curvatures from 1 down, along the axes or turned."""

import numpy as np

from llm.grad.tensor import Tensor
from llm.models.neural_ngram import descend
from llm.train.adam import AdamW, RMSProp
from llm.train.sgd import SGD

KINDS = {"plain steps": None, "momentum 0.9": lambda p: SGD(p, 0.9), "RMSProp": RMSProp,
         "Adam": lambda p: AdamW(p, decay=0.0), "AdamW, decay 0.1": lambda p: AdamW(p, decay=0.1)}


def updater(make, model):
    """What `train` calls to change the parameters."""
    if make is None:
        return descend
    optimizer = make(model.named_parameters())
    return lambda parameters, rate: optimizer.step(rate)


def bowls(condition, seed, size=20, steps=200):
    """Loss ½ xᵀA x step by step, at the rate of a sweep that ends lowest."""
    rng = np.random.default_rng(seed)
    curvatures, start = np.geomspace(1, 1 / condition, size), rng.standard_normal(size)
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    rows = []
    for kind in ("plain steps", "RMSProp", "Adam"):
        for name, axes in (("along the axes", np.eye(size)), ("turned", turn)):
            matrix, runs = axes @ np.diag(curvatures) @ axes.T, []
            for rate in np.geomspace(0.001, 1.99, 23):
                x = Tensor(axes @ start, requires_grad=True)
                update = updater(KINDS[kind], Named(x))
                curve = []
                for _ in range(steps + 1):
                    x.grad = matrix @ x.data
                    curve.append(0.5 * float(x.data @ x.grad))
                    update({"x": x}, rate)
                runs.append((curve[-1], float(rate), curve))
            _, rate, curve = min(runs)
            rows.append([kind, name, rate, [c / curve[0] for c in curve]])
    return rows


class Named:
    """One Tensor as if it were a model."""

    def __init__(self, tensor):
        self.named_parameters = lambda: {"x": tensor}
