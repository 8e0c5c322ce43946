"""Day 30 · Position: learned, sinusoidal, ALiBi.

Attention sees a set: permute the tokens and its outputs are permuted alike. Order has to be put
in. The first two add a vector per position to the input; ALiBi adds a penalty per distance to the
scores. Left out: turning queries and keys (day 31), and biases that are learned (T5).
"""

import functools

import numpy as np

from llm.functions.heads import PositionRule
from llm.grad.tensor import Tensor
from llm.layers.module import Module, parameter


def sinusoids(T, channels, dtype=np.float32):
    """(T, C): channel 2i of row t is sin(t·ω_i), channel 2i + 1 is cos(t·ω_i), ω_i = 10000^(−2i/C).

    Raises ValueError if C is odd. Source: Vaswani et al. (2017), section 3.5.
    """
    if channels % 2:
        raise ValueError(f"sinusoids come in pairs: {channels} channels is odd")
    angle = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, channels, 2) / channels)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(T, channels).astype(dtype)


class LearnedPositions(Module):
    """x (B, T, C) -> x + table[:T]; the table (T_max, C) is trained, and ends at T_max.

    Raises ValueError if T > T_max, or if x has other channels than the table.
    """

    def __init__(self, T_max, channels, rng, std=0.02, dtype=np.float32):
        self.table = parameter((std * rng.standard_normal((T_max, channels))).astype(dtype))

    def __call__(self, x):
        T, (T_max, C) = x.shape[-2], self.table.shape
        if x.shape[-1] != C:
            raise ValueError(f"a table of positions {self.table.shape} cannot be added to tokens "
                             f"{x.shape}: make both with the same number of channels")
        if T_max < T:
            raise ValueError(f"{T} tokens, but positions were learned for {T_max} only: "
                             "crop the input or use a rule that extrapolates")
        return x + (self.table if T_max == T else self.table[:T])


class SinusoidalPositions(Module):
    """x (B, T, C) -> x + sinusoids(T, C); nothing to train, any length."""

    def __call__(self, x):
        return x + Tensor(sinusoids(x.shape[-2], x.shape[-1], x.dtype))


class ALiBi(PositionRule):
    """Head h adds −m_h · (t − s) to the score of key s for query t, m_h = 2^(−8h/H), h = 1 … H.

    Raises ValueError if H < 1.
    Source: Press et al. (2022), section 3 (the authors' code has other slopes where H is no power
    of two).
    """

    def __init__(self, H):
        if H < 1:
            raise ValueError(f"ALiBi needs a slope for each head, got {H} heads: give H ≥ 1")
        self.bias = functools.lru_cache(maxsize=1)(self.bias)     # one T after another: built once
        self.slopes = 2.0 ** (-8 * np.arange(1, H + 1) / H)

    def bias(self, T):
        distance = np.arange(T)[:, None] - np.arange(T)
        return -self.slopes[:, None, None] * np.maximum(distance, 0)      # (H, T, T)
