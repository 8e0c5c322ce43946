"""Day 23 · A probe: numbers that tell how a training is doing, for any model and any loop.

    probe = Probe(every=10)
    with probe.activations():                               # what tanh, ReLU … put out
        train(model, batches, rate, update=probe.update(descend), watch=probe.watch)
    print(diagnose(evidence(probe.looks, probe.losses, check, V, entropy)))      # verdict.py

A look is taken at steps 1, 1 + every, …: of each parameter the size of its gradient and of the step
it took, of each activation how many units are dead or saturated. Left out: second derivatives, and
which numbers are healthy for a model that is nothing like these.
"""

import contextlib
from dataclasses import dataclass, field

import numpy as np

from llm.grad import ops
from llm.grad.lowering import lower, twin_of

LIMITS = {"tanh": (-0.97, 0.97), "sigmoid": (0.015, 0.985)}       # beyond: < 6 % of the slope at 0
DEAD = {"relu": 0.0}                   # a unit whose output is this for every row learns nothing
BINS = np.arange(-12.0, 3.0)           # of log10 |x|, for histograms


@dataclass
class Look:
    """One step seen closely. Sizes are root mean squares.

    weights, gradients, updates: {parameter: float}; matrices: which of them are matrices. norm: of
    the whole gradient, as the update was given it. units: {"tanh 1": {"size", "dead",
    "saturated", "histogram"}}, in the order of the forward pass; dead is a share of the units,
    saturated of all values. histograms: {parameter: counts of log10 |gradient| in BINS}, zeros
    first; those of units count log10 |output|.
    """

    step: int
    loss: float = float("nan")
    weights: dict = field(default_factory=dict)
    gradients: dict = field(default_factory=dict)
    updates: dict = field(default_factory=dict)
    histograms: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    norm: float = 0.0
    matrices: list = field(default_factory=list)

    def ratios(self):
        """{matrix: size of its update over its own size}.

        Vectors are left out: biases start at 0, where every update is infinitely large beside them.
        """
        return {name: self.updates[name] / self.weights[name] if self.weights[name] else 0.0
                for name in self.matrices}

    def ratio(self):
        """The median of `ratios()`; 0 where there is no matrix."""
        return float(np.median(list(self.ratios().values()) or [0.0]))


class Probe:
    """Collects a Look every `every` steps in `looks`, and of each step its loss and gradient norm.

    Raises ValueError for every < 1.
    """

    def __init__(self, every=10):
        if every < 1:
            raise ValueError(f"a look every {every} steps: at least 1")
        self.every, self.looks, self.losses, self.norms, self._seen = every, [], [], [], []

    def update(self, step):
        """`step(parameters, *more)` with a look around it: an update for any loop."""
        def measured(parameters, *more):
            grads = {n: p.grad for n, p in parameters.items() if p.grad is not None}
            self.norms.append(float(np.sqrt(sum(np.vdot(g, g).astype(np.float64)
                                                for g in grads.values()))))
            if (len(self.norms) - 1) % self.every:
                self._seen = []
                return step(parameters, *more)
            look = Look(len(self.norms), norm=self.norms[-1], units=summary(self._seen))
            self._seen, before = [], {name: p.data.copy() for name, p in parameters.items()}
            for name, grad in grads.items():                  # before the update: it may scale them
                look.gradients[name], look.histograms[name] = rms(grad), histogram(grad)
            result = step(parameters, *more)
            look.matrices = [name for name, old in before.items() if old.ndim > 1]
            for name, old in before.items():
                look.weights[name] = rms(old)
                look.updates[name] = rms(parameters[name].data - old)
            self.looks.append(look)
            return result
        return measured

    def watch(self, step, total, loss):
        """Called by the loop after each step with its loss."""
        self.losses.append(float(loss))
        if self.looks and self.looks[-1].step == len(self.losses):
            self.looks[-1].loss = float(loss)

    def optimizer(self, inner):
        """As `update`, for a loop that takes an optimizer with `parameters` and `step(rate)`."""
        return Measured(inner, self.update(lambda parameters, rate: inner.step(rate)))

    @contextlib.contextmanager
    def activations(self):
        """Inside, each call of an activation function is remembered until the next update."""
        table = {}
        for name in ("relu", "tanh", "sigmoid", "gelu", "silu"):
            primitive = getattr(ops, name)
            table[primitive] = self._listening(name, twin_of(primitive, primitive.pair))
        with lower(table):
            yield self

    def _listening(self, name, pair):
        f, f_vjp = pair

        def listened(*arrays, **options):
            result = f(*arrays, **options)
            out = result[0] if isinstance(result, tuple) else result
            if len(self.norms) % self.every == 0:
                self._seen.append((name, out))
            return result
        return listened, f_vjp


class Measured:
    """An optimizer whose `step(rate)` is surrounded by a look; made by `Probe.optimizer`."""

    def __init__(self, inner, update):
        self.inner, self.parameters, self._update = inner, inner.parameters, update

    def step(self, rate):
        self._update(self.parameters, rate)


def rms(x):
    """Root mean square in float64, of any shape; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def histogram(x):
    """Counts (1 + len(BINS),): zeros, then log10 |x| in [BINS[i], BINS[i + 1]), ends open."""
    size = np.abs(x[x != 0]).astype(np.float64)
    at = np.clip(np.searchsorted(BINS, np.log10(size), side="right") - 1, 0, len(BINS) - 1)
    return [int(x.size - size.size), *np.bincount(at, minlength=len(BINS)).tolist()]


def summary(seen):
    """[(name, output (…, units))] -> {"tanh 1": {"size", "dead", "saturated", "histogram"}}."""
    found, counts = {}, {}
    for name, out in seen:
        counts[name] = counts.get(name, 0) + 1
        rows = out.reshape(-1, out.shape[-1])
        low, high = LIMITS.get(name, (-np.inf, np.inf))
        dead = (rows == DEAD[name]).all(axis=0).mean() if name in DEAD else 0.0
        found[f"{name} {counts[name]}"] = {
            "size": rms(rows), "dead": float(dead),
            "saturated": float(((rows < low) | (rows > high)).mean()),
            "histogram": histogram(rows)}
    return found
