"""Day 31 · Rotary positions: turn queries and keys by an angle that grows with their position.

A head's D channels are taken as D/2 pairs, points in a plane. Pair i of the token at position t is
turned by the angle t·ω_i, ω_i = base^(−2i/D). A dot product of two turned vectors feels only the
difference of their angles, so a score depends on how far apart two tokens are, not on where.

Two conventions say which channels are a pair: neighbours (2i, 2i + 1), as published, or
(i, i + D/2), whole slices, which most checkpoints hold. They differ by a permutation.
Angles slowed for texts longer than those of training are in stretch.py. Left out: starting at
another position in each call (day 42).
"""

import numpy as np

from llm.functions.heads import PositionRule


def angles(T, D, base=10000.0):
    """Radians (T, D/2), float64: row t is t·ω. Raises ValueError if D is odd.

    In float32 an angle of some thousands of radians would be known to 10⁻⁴ only.
    Source: Su et al. (2021), eq. 15.
    """
    if D % 2 or D < 2:
        raise ValueError(f"rotary turns pairs of channels: a head of {D} has none to spare, "
                         "choose an even D")
    return np.arange(T)[:, None] * float(base) ** (-np.arange(0, D, 2) / D)


def rotate_half_split(x, cos, sin):
    """Turn the pairs (i, i + D/2): x (..., T, D), cos and sin (T, D/2) -> (..., T, D)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    out = np.empty_like(x)
    out[..., :half] = a * cos - b * sin
    out[..., half:] = a * sin + b * cos
    return out


def rotate_interleaved(x, cos, sin):
    """Turn the pairs (2i, 2i + 1): x (..., T, D), cos and sin (T, D/2) -> (..., T, D)."""
    a, b = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = a * cos - b * sin
    out[..., 1::2] = a * sin + b * cos
    return out


def interleaved_to_half(D):
    """Where half-split channel j stands among interleaved ones: [0, 2, 4, …, 1, 3, 5, …], (D,).

    rotate_half_split(x[..., p], …) = rotate_interleaved(x, …)[..., p]; argsort(p) leads back.
    """
    return np.arange(D).reshape(D // 2, 2).T.reshape(D)


class Rotary(PositionRule):
    """Turns queries and keys (B, H, T, D), 0 < T ≤ T_max; 3·D FLOPs a vector, no parameters.

    D: channels of one head. cos, sin: float32 tables (T_max, D/2); float64 input uses exact ones.
    frequencies: (D/2,) radians a step, such as those of stretch.py, in place of the base's.
    positions: (T_max,) where the tokens stand, if not at 0, 1, 2, …; scale: what turned vectors
    are multiplied by (YaRN). Raises ValueError if D is odd, if T > T_max, if a head does not have
    D channels, or if frequencies or positions do not fit. Source: Su et al. (2021), eq. 34.
    """

    def __init__(self, D, T_max, base=10000.0, interleaved=False, frequencies=None, positions=None,
                 scale=1.0):
        angle = angles(T_max, D, base)
        if frequencies is not None or positions is not None:
            speed = angles(2, D, base)[1] if frequencies is None else np.asarray(frequencies)
            place = np.arange(T_max) if positions is None else np.asarray(positions)
            if speed.shape != (D // 2,) or place.shape != (T_max,):
                raise ValueError(f"frequencies {speed.shape} and positions {place.shape}: wanted "
                                 f"({D // 2},) and ({T_max},)")
            angle = np.multiply.outer(place, speed.astype(np.float64))
        self.D, self.T_max, self.interleaved = D, T_max, interleaved
        self.exact = np.cos(angle) * scale, np.sin(angle) * scale
        self.cos, self.sin = (table.astype(np.float32) for table in self.exact)

    def turn(self, x):
        """Queries or keys (B, H, T, D) -> the same shape, each turned by its position's angles."""
        return self.rotate(x, 1)

    def turn_vjp(self, dx):
        """A rotation R is orthogonal: its transpose Rᵀ is the rotation by the opposite angles."""
        return self.rotate(dx, -1)

    def tables(self, T):
        """cos and sin (T, D/2) for kernels; None where pairs are neighbours, or T > T_max."""
        if self.interleaved or self.T_max < T:
            return None
        return self.cos[:T], self.sin[:T]

    def rotate(self, x, sign):
        """x (..., T, D) turned by its angles, or with sign −1 back by them."""
        T, D = x.shape[-2:]
        if D != self.D:
            raise ValueError(f"heads of {D} channels, shape {x.shape}, but the angles are for "
                             f"{self.D}: make a Rotary with D={D}")
        if self.T_max < T:
            raise ValueError(f"{T} tokens, but angles were made for {self.T_max} only: "
                             f"crop the input or make a Rotary with T_max={T}")
        cos, sin = self.exact if x.dtype == np.float64 else (self.cos, self.sin)
        turn = rotate_interleaved if self.interleaved else rotate_half_split
        return turn(x, cos[:T], sign * sin[:T])
