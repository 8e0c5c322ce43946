"""Day 31 · Slower hands: rotary frequencies for texts longer than those a model was trained on.

A pair of channels turns like the hand of a clock: hand i moves by the angle ω_i with each token.
Each function gives (D/2,) float64 radians a token, for `Rotary(…, frequencies=…)`. Over a text
`factor` times as long a hand would reach angles that training never showed, unless it turns more
slowly. Which hands are slowed is where the four ways differ.

Left out: factors for each hand found by search (LongRoPE), and scaling that follows the length.
"""

import math

import numpy as np

from llm.layers.rotary import angles


def usual(D, base=10000.0):
    """ω_i = base^(−2i/D), as trained. Raises ValueError if D is odd."""
    return angles(2, D, base)[1]


def interpolated(D, factor, base=10000.0):
    """All hands slowed alike: positions are pressed together. Source: Chen et al. (2023), eq. 4."""
    return usual(D, base) / at_least_one(factor)


def by_base(D, factor, base=10000.0):
    """A larger base: the first hand stays, the last is slowed by the whole factor ("NTK-aware").

    Source: Peng et al. (2023), section 3.1, eq. 15 and 16. Raises ValueError for D < 4.
    """
    if D < 4:
        raise ValueError(f"a head of {D} channels has one hand, and a larger base leaves that "
                         "as it is: choose another way")
    return usual(D, base * at_least_one(factor) ** (D / (D - 2)))


def by_parts(D, factor, T_trained, base=10000.0, fast=32.0, slow=1.0):
    """YaRN: hands with more than `fast` turns in T_trained tokens stay, those with less than `slow`
    are slowed by the whole factor; between them a line over the index i, from a whole i to one.

    Use it with `Rotary(…, scale=yarn_scale(factor))`. Source: Peng et al. (2023), definition 2 and
    section 3.2; the line over i, not over turns, is that of the published code.
    """
    def index_of(turns):
        return D * math.log(T_trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(index_of(fast)), 0), min(math.ceil(index_of(slow)), D - 1)
    ramp = (np.arange(D // 2) - low) / max(high - low, 1e-3)
    return blend(usual(D, base), factor, np.clip(ramp, 0, 1))


def yarn_scale(factor):
    """0.1·ln(factor) + 1: what turned queries and keys are multiplied by.

    It sharpens the softmax over the many keys of a longer text. Source: Peng et al. (2023), eq. 22.
    """
    return 0.1 * math.log(at_least_one(factor)) + 1


def llama3(D, factor, T_trained, base=500000.0, slow=1.0, fast=4.0):
    """Llama 3.1's: as by_parts, with a line over the turns in T_trained tokens, and no scale.

    Source: meta-llama/llama-models, `apply_scaling`; 8, 8,192, 1 and 4 are its numbers.
    """
    turns = usual(D, base) * T_trained / (2 * math.pi)
    return blend(usual(D, base), factor, 1 - np.clip((turns - slow) / (fast - slow), 0, 1))


def blend(speed, factor, share):
    """The share (D/2,), 0 … 1, of each hand that is slowed by the factor; the rest stays."""
    return speed * (1 - share) + speed / at_least_one(factor) * share


def at_least_one(factor):
    """The factor, or ValueError where a text would be shorter than those of training."""
    if not factor >= 1:
        raise ValueError(f"a factor of {factor}: 1 is the trained length, 2 twice as long")
    return factor
