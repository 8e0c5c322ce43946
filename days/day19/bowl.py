"""Day 19 · A bowl with noise: the expected loss after each step, exactly, for any rates.

In a direction of curvature λ a noisy step is x ← (1 − ηλ)x − ηξ, with ξ of mean 0 and variance
s², so E[x²] ← (1 − ηλ)² E[x²] + η²s². Nothing here is random.
"""

import numpy as np

from llm.train.schedule import Constant, WarmupCosine, WarmupStableDecay

MAKERS = {"constant": lambda peak, warmup: Constant(peak), "cosine": WarmupCosine,
          "warmup-stable-decay": WarmupStableDecay,
          "linear": lambda peak, warmup: WarmupStableDecay(peak, warmup, decay=1.0)}


def rates_of(schedule, steps):
    """The rate of each step: (steps,)."""
    return np.array([schedule(step, steps) for step in range(1, steps + 1)])


def expected_losses(rates, curvatures, noise, start=1.0):
    """½ Σ λ E[x²] before the first step and after each: rates (..., T) → (..., T + 1).

    curvatures (n,): λ of each direction; noise: s² of each; start: E[x²] of each at first.
    """
    square = np.full((*np.shape(rates)[:-1], len(curvatures)), start, float)   # (..., n)
    losses = [0.5 * square @ curvatures]
    for rate in np.moveaxis(np.asarray(rates)[..., None], -2, 0):              # (..., 1) a step
        square = (1 - rate * curvatures) ** 2 * square + rate**2 * noise
        losses.append(0.5 * square @ curvatures)
    return np.stack(losses, -1)


def floor(rate, curvature, noise):
    """E[x²] that a constant rate ends at in one direction: ηs²/(λ(2 − ηλ))."""
    return rate * noise / (curvature * (2 - rate * curvature))


def walk(rate, curvature, noise, steps, walkers, rng):
    """The same by trial: mean x² of `walkers` noisy descents from 0 after `steps` steps."""
    x = np.zeros(walkers)
    for _ in range(steps):
        x -= rate * (curvature * x + np.sqrt(noise) * rng.standard_normal(walkers))
    return float((x * x).mean())


def one_over_t(curvature, delay):
    """The schedule 1/(λ(t + delay)): the best for one direction, with delay = s²/(λ²·start)."""
    return lambda step, total: 1 / (curvature * (step + delay))


def compare(curvatures, noise, steps, peaks=None):
    """Rows [schedule, its best peak, loss at the end]; last 1/t as the steepest wants it."""
    peaks = np.geomspace(0.01, 1.0, 41) if peaks is None else peaks
    rows = []
    for name, make in MAKERS.items():
        rates = np.array([rates_of(make(float(peak), 0), steps) for peak in peaks])    # (P, T)
        ends = expected_losses(rates, curvatures, noise)[:, -1]
        rows.append([name, float(peaks[ends.argmin()]), float(ends.min())])
    rates = rates_of(one_over_t(curvatures.max(), noise / curvatures.max() ** 2), steps)
    return [*rows, ["1/t", float(rates[0]),
                    float(expected_losses(rates, curvatures, noise)[-1])]]
