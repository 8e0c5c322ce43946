"""Day 42 · Rotary angles from any position on, for plain arrays.

Day 31's turn starts at position 0; a cache needs it to start anywhere, and to be undone.
Left out: interleaved pairs (day 52 permutes such weights once, when it loads them).
"""

import numpy as np


def turn(x, positions, base):
    """Turn the pairs (i, i + D/2) of x (…, n, D) by positions[t] · base^(−2i/D).

    positions: (n,) integers, which may be below 0: turning by −p undoes turning by p. Angles are
    computed in float64 and only their cosines rounded to x's type. 3·D FLOPs a vector.
    Source: Su et al. (2021), equations 15 and 34.
    """
    half = x.shape[-1] // 2
    angles = np.asarray(positions)[:, None] * float(base) ** (-np.arange(half) / half)  # (n, D/2)
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
