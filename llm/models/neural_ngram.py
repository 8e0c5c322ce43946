"""Day 16 · The window model of day 11 made of Modules, trained, and mixed with counts.

Training is the plainest there is: draw a mini-batch of windows, go backward, p ← p − rate·grad.
The update and the rate are arguments, so that the days on optimizers and schedules (17–19) train
this same model. Left out: every context beyond T tokens, and a loop for all models (day 35).
"""

import time

import numpy as np

from llm.functions.probability import log_softmax
from llm.generate.sample import sample
from llm.grad import ops
from llm.grad.tensor import no_grad
from llm.layers.module import Embedding, Linear, Module
from llm.models.window import windows


class NeuralNGram(Module):
    """ids (..., T) -> logits (..., V) of the token after each window.

    V·C + T·C·hidden + hidden + hidden·V + V parameters. The last layer starts small, so that the
    untrained model is nearly uniform. Source: Bengio et al. (2003), equation 1, with W = 0.
    """

    def __init__(self, vocab_size, context, channels, hidden, rng, dtype=np.float32):
        if min(vocab_size, context, channels, hidden) < 1:
            raise ValueError(f"sizes must be 1 or more, not V {vocab_size}, T {context}, "
                             f"C {channels}, hidden {hidden}")
        self.context = context
        self.embed = Embedding(vocab_size, channels, rng, dtype=dtype)
        self.hidden = Linear(context * channels, hidden, rng, dtype=dtype)
        self.out = Linear(hidden, vocab_size, rng, std=0.1 * hidden**-0.5, dtype=dtype)

    def __call__(self, ids):
        if np.ndim(ids) < 1 or np.shape(ids)[-1] != self.context:
            raise ValueError(f"ids {np.shape(ids)} must end in T = {self.context}, the context "
                             "this model was made for")
        x = self.embed(ids)                                      # (..., T, C)
        x = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])  # (..., T·C)
        return self.out(ops.tanh(self.hidden(x)))                # (..., V)


def draws(ids, context, batch, rng):
    """Endless mini-batches of `batch` random windows: contexts (B, T) and targets (B,)."""
    contexts, targets = windows(ids, context)
    while True:
        at = rng.integers(len(targets), size=batch)
        yield contexts[at], targets[at]


def descend(parameters, rate):
    """One plain step, in place: p ← p − rate · gradient, for {name: Tensor}."""
    for p in parameters.values():
        if p.grad is not None:
            p.data -= rate * p.grad


def train(model, batches, rate, *, steps=None, seconds=None, update=descend, watch=None):
    """Take steps until `steps` are done or `seconds` have passed; returns the loss of each, nats.

    batches: an iterator of (contexts, targets). rate: a number, or a function of (step, total)
    with step = 1 … total; under a time limit `total` is the guess from the pace so far, and never
    above `steps`.
    update(parameters, rate) changes the parameters from their gradients. watch(step, total, loss)
    is called after each. Raises ValueError if neither limit is given, or if the batches run out.
    """
    if steps is None and seconds is None:
        raise ValueError("say how long: train(..., steps=1000) or train(..., seconds=10)")
    parameters, losses = model.named_parameters(), []
    began = time.perf_counter()
    while steps is None or len(losses) < steps:
        passed = time.perf_counter() - began
        if seconds is not None and passed >= seconds:
            break
        step = len(losses) + 1
        total = steps
        if seconds is not None:
            by_time = expected(step, passed, seconds)
            total = by_time if steps is None else min(steps, by_time)
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"the batches ran out after {len(losses)} steps: pass an endless "
                             "iterator, such as draws(...), or fewer steps")
        contexts, targets = batch
        model.zero_grad()
        loss = ops.cross_entropy(model(contexts), targets)
        loss.backward()
        update(parameters, rate(step, total) if callable(rate) else rate)
        losses.append(float(loss.data))
        if watch is not None:
            watch(step, total, losses[-1])
    return losses


def expected(step, passed, seconds):
    """A guess at the last step, by the pace so far: `step` − 1 steps took `passed` seconds.

    The step about to begin is counted as done, which keeps the first guess from being 1.
    """
    return step + int(step * (seconds - passed) / max(passed, 1e-6))


def log_probabilities(model, ids, chunk=4096):
    """ln P of each token that has a full window before it: ids (L,) → (L − T,) float64, nats."""
    contexts, targets = windows(ids, model.context)
    parts = []
    with no_grad():
        for i in range(0, len(targets), chunk):
            logp = log_softmax(model(contexts[i:i + chunk]).data)               # (chunk, V)
            chosen = targets[i:i + chunk].astype(np.int64)[:, None]
            parts.append(np.take_along_axis(logp, chosen, -1)[:, 0].astype(np.float64))
    return np.concatenate(parts)


def generate(model, n, rng, prompt):
    """Draw `n` tokens after `prompt`, at least T of them: (n,) int32, without the prompt.

    Raises ValueError for a shorter prompt.
    """
    ids = [int(i) for i in prompt]
    if len(ids) < model.context:
        raise ValueError(f"a prompt of {len(ids)} tokens is too short for a window of "
                         f"{model.context}")
    with no_grad():
        for _ in range(n):
            ids.append(sample(model(np.array(ids[-model.context:])).data, rng))
    return np.array(ids[len(ids) - n:], np.int32)


def mix(a, b, weight):
    """ln(weight · eᵃ + (1 − weight) · eᵇ), elementwise: two models' ln P become one mixture's.

    Raises ValueError unless shapes agree and 0 ≤ weight ≤ 1.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not 0 <= weight <= 1:
        raise ValueError(f"cannot mix {a.shape} and {b.shape} with weight {weight}: wanted one "
                         "ln P a token from each, and a weight between 0 and 1")
    with np.errstate(divide="ignore"):                           # ln 0 = −inf is what we mean
        return np.logaddexp(a + np.log(np.float64(weight)), b + np.log1p(-np.float64(weight)))


def best_weight(a, b, rounds=50):
    """The weight of `a` in `mix(a, b, weight)` that fits these tokens best: a float in (0, 1).

    Each round asks what share of the tokens' probability came from a, and makes that the weight;
    the likelihood never falls. Choose it on tokens that are not used for the report.
    Raises ValueError where there are no tokens, or both models give one the probability 0.
    Source: Jelinek & Mercer (1980); an instance of Dempster et al. (1977), EM.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    impossible = int(np.isneginf(mix(a, b, 0.5)).sum())
    if not a.size or impossible:
        raise ValueError(f"no weight can be fitted to {a.size} tokens of which {impossible} have "
                         "probability 0 in both models")
    weight = 0.5
    for _ in range(rounds):
        weight = float(np.exp(a + np.log(weight) - mix(a, b, weight)).mean())
        weight = min(max(weight, 1e-6), 1 - 1e-6)
    return weight
