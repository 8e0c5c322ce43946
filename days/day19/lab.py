"""Day 19 · The lab: a window model, trained once with a schedule, clipped or not, and probed."""

import math
from dataclasses import dataclass

import numpy as np

from llm.grad import ops
from llm.models.deep_window import DeepWindow
from llm.models.neural_ngram import descend, draws, log_probabilities, train
from llm.train.adam import AdamW
from llm.train.clip import clip_gradients

CONTEXT, CHANNELS, HIDDEN, BATCH = 6, 16, 64, 64


@dataclass(frozen=True)
class Trial:
    """What a run leaves behind."""

    nats: float            # a character of unseen text
    losses: list           # of each step
    norms: list            # of each step's gradient, before clipping
    moves: list            # root mean square change of a parameter / rate, where asked for


@dataclass(frozen=True)
class Lab:
    """The text, and how to train on it: each call is a run of its own."""

    vocab_size: int
    seen: np.ndarray
    unseen: np.ndarray
    seed: int
    runs: int              # seeds a mean is taken over

    def model(self, layers=1, last=1.0, seed=0):
        """A model whose last layer starts `last` times as large as day 16 draws it."""
        model = DeepWindow(self.vocab_size, CONTEXT, CHANNELS, HIDDEN, layers,
                           np.random.default_rng(seed), gain=1.0 if layers == 1 else 1.5)
        model.out.w.data *= np.float32(last)
        return model

    def run(self, schedule, steps, *, layers=1, last=1.0, limit=math.inf, bad=(), plain=False,
            moves=False, before=None, seed=None):
        """Train once; before(t, model) is called before step t + 1."""
        seed = self.seed if seed is None else seed
        model, norms, moved = self.model(layers, last, seed), [], []
        optimizer = AdamW(model.named_parameters())

        def update(parameters, rate):
            norms.append(clip_gradients([p.grad for p in parameters.values()], limit))
            old = [p.data.copy() for p in parameters.values()] if moves else []
            if math.isfinite(norms[-1]):
                descend(parameters, rate) if plain else optimizer.step(rate)
            if moves:
                change = [p.data - was for p, was in zip(parameters.values(), old)]
                size = sum(c.size for c in change)
                moved.append(math.sqrt(sum(float((c * c).sum()) for c in change) / size) / rate)

        def batches():
            source = draws(self.seen, CONTEXT, BATCH, np.random.default_rng(seed + 1))
            for step, (contexts, targets) in enumerate(source, 1):
                if before:
                    before(step - 1, model)
                yield (contexts * 0, targets * 0) if step in bad else (contexts, targets)

        with np.errstate(over="ignore", invalid="ignore"):       # a range run goes too far
            losses = train(model, batches(), schedule, steps=steps, update=update)
            nats = -float(log_probabilities(model, self.unseen).mean())
        return Trial(nats, losses, norms, moved)

    def several(self, bar, schedule, steps, **options):
        """The same run from `runs` seeds."""
        done = []
        for i in range(self.runs):
            done.append(self.run(schedule, steps, seed=self.seed + 10 * i, **options))
            bar(1)
        return done

    def curvature(self, model, rounds=20):
        """λ_max of the loss on 256 windows: multiply by the Hessian until one direction is left.

        The product is a difference of two gradients (day 12), H u ≈ (g(x + hu) − g(x − hu))/2h.
        """
        source = draws(self.seen, CONTEXT, BATCH, np.random.default_rng(self.seed))
        batches = [next(source) for _ in range(4)]
        parameters = list(model.named_parameters().values())
        kept = [p.data.copy() for p in parameters]
        rng = np.random.default_rng(self.seed)
        u = [rng.standard_normal(p.data.shape) for p in parameters]
        h, length = 0.02, 0.0

        def gradient(sign):
            for p, was, x in zip(parameters, kept, u):
                p.data[...] = was + sign * h * x
            model.zero_grad()
            for contexts, targets in batches:                    # gradients add up (day 15)
                ops.cross_entropy(model(contexts), targets).backward()
            return [p.grad / len(batches) for p in parameters]

        for _ in range(rounds):
            scale = math.sqrt(sum(float((x * x).sum()) for x in u))
            u = [x / scale for x in u]
            u = [(a - b) / (2 * h) for a, b in zip(gradient(1), gradient(-1))]
            length = math.sqrt(sum(float((x * x).sum()) for x in u))
        for p, was in zip(parameters, kept):
            p.data[...] = was
        return length


def averaged(losses, memory=0.9):
    """The running mean that `suggest` reads, corrected as on day 18, up to the first NaN."""
    out, average = [], 0.0
    for t, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            break
        average = memory * average + (1 - memory) * loss
        out.append(average / (1 - memory**t))
    return out


def smooth(losses, width=25):
    """Means over `width` steps, one each step from the first full window on."""
    return np.convolve(losses, np.full(width, 1 / width), "valid").tolist()


def noise_step(t, beta1=0.9):
    """Root mean square of Adam's step t, in rates, where the gradients are coins of ±1."""
    return math.sqrt((1 - beta1) / (1 + beta1) * (1 + beta1**t) / (1 - beta1**t))
