"""Day 19 · Learning-rate schedules: the rate as a function of the step.

A schedule is called as `schedule(step, total)`, with step = 1 … total, and returns the rate of
that step. `total` is passed each time since a run limited by time learns it only on the way. Left
out: restarts, and schedules that react to the loss.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """The same rate always."""

    peak: float

    def __call__(self, step, total):
        return self.peak


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from peak/warmup at step 1 to peak at step `warmup`, then half a cosine to `floor`.

    Source: Loshchilov & Hutter (2017), eq. 5; warmup as in Goyal et al. (2017), section 2.2.
    """

    peak: float
    warmup: int = 100
    floor: float = 0.0

    def __call__(self, step, total):
        if step < self.warmup:
            return self.peak * step / self.warmup
        u = min((step - self.warmup) / max(total - self.warmup, 1), 1.0)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * u))


@dataclass(frozen=True)
class WarmupStableDecay:
    """Linear warmup, a plateau, and over the last `decay` share of steps linearly to `floor`.

    Source: Hu et al., MiniCPM (2024), section 4, which leaves open how the rate falls; linearly as
    in Bergsma et al. (2025).
    """

    peak: float
    warmup: int = 100
    decay: float = 0.2
    floor: float = 0.0

    def __call__(self, step, total):
        left = min(max((total - step) / max(self.decay * total, 1), 0.0), 1.0)
        rate = self.floor + (self.peak - self.floor) * left
        return min(rate, self.peak * step / self.warmup) if step < self.warmup else rate


def exponential_range(lowest, highest):
    """For the range finder: a schedule that multiplies the rate evenly from lowest to highest.

    Train with it for a few hundred steps and look where the averaged loss is lowest: `suggest`
    does. Raises ValueError unless 0 < lowest < highest.
    Source: Smith (2017), section 3.3.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"a range of rates wants 0 < lowest < highest, not {lowest}, {highest}")

    def schedule(step, total):
        return lowest * (highest / lowest) ** ((step - 1) / max(total - 1, 1))
    return schedule


def suggest(rates, losses, memory=0.9):
    """Read a range run: (rate to use, rate of the lowest loss), from one rate and loss a step.

    Single losses are noisy, so they are averaged with weights that fall by `memory` a step. Where
    that average is lowest the rate is already too high to stay; a third of it is a usual choice.
    The average lags memory/(1 - memory) steps behind: a run of 100 steps reads too high a rate.
    A loss of NaN or infinity ends the reading. Raises ValueError where the two lengths differ or
    nothing is left to read.
    """
    if len(rates) != len(losses):
        raise ValueError(f"{len(rates)} rates and {len(losses)} losses: wanted one loss a rate")
    best, lowest, average, weight = None, math.inf, 0.0, 0.0
    for rate, loss in zip(rates, losses):
        if not math.isfinite(loss):
            break
        average = memory * average + (1 - memory) * loss
        weight = memory * weight + (1 - memory)              # the weights so far add up to this
        if average / weight < lowest:
            best, lowest = rate, average / weight
    if best is None:
        raise ValueError("no finite loss to read: begin the range at a lower rate")
    return best / 3, best
