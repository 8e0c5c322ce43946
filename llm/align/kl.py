"""Day 57 · How far a policy has gone from its reference: KL from samples, and a dial to hold it.

KL(π‖ρ) = Σ_y π(y) ln(π(y)/ρ(y)) has as many terms as there are answers. Samples of π and two
log-probabilities each are enough to estimate it. Left out: KL in the loss itself (day 59).
"""

from dataclasses import dataclass

import numpy as np


def k1(logps, reference):
    """ln π − ln ρ of what π has sampled: unbiased for KL(π‖ρ), and often below 0. Any shape."""
    return logps - reference


def k3(logps, reference):
    """r − 1 − ln r with r = ρ/π, of what π has sampled: unbiased too, and never below 0.

    Unbiased since E_π[r] = Σ ρ = 1, provided that π can sample whatever ρ can.
    Source: Schulman (2020), "Approximating KL Divergence".
    """
    log_ratio = reference - logps
    return np.expm1(log_ratio) - log_ratio


@dataclass
class AdaptiveKL:
    """The KL coefficient β, turned up where the KL is above `target` and down where it is below.

    beta: score that a nat of KL costs. target: nats an answer. gain: K_β; 0 holds β fixed.
    limit: of the relative error, so that one round changes β by a factor of 1 ± gain·limit.
    Raises ValueError for β below 0, a target that is not above 0, a gain below 0, or a limit that
    is not above 0, and for gain·limit ≥ 1, with which β could reach 0 or less.
    Source: Ziegler et al. (2019), section 2.2, with gain 0.1 and limit 0.2.
    """

    beta: float
    target: float = 6.0
    gain: float = 0.1
    limit: float = 0.2

    def __post_init__(self):
        if not (self.beta >= 0 and self.target > 0 and self.gain >= 0 and self.limit > 0
                and self.gain * self.limit < 1):
            raise ValueError(f"beta {self.beta} and gain {self.gain} must be at least 0, target "
                             f"{self.target} and limit {self.limit} above 0, gain·limit below 1")

    def update(self, kl):
        """Move β after a round whose answers have cost `kl` nats each, on average."""
        error = min(max(kl / self.target - 1, -self.limit), self.limit)
        self.beta *= 1 + self.gain * error
