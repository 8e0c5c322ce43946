"""Day 08 · Drawing one token from logits: inverse CDF, Gumbel-max, and temperature.

Both samplers draw from softmax(logits / T); their proofs are in the note of this day. T = 0 means
the most likely token (the lowest id on ties), T = ∞ a uniform one among those not masked by −∞.
Left out: cutting the tail off (top-k, top-p, min-p) and searching (beams), which day 41 adds.
"""

import math

import numpy as np


def sample(logits, rng, temperature=1.0):
    """Draw an id with probability softmax(logits / temperature), by inverting the CDF.

    logits: (V,) -> an int, or (B, V) -> (B,) int32, one draw a row; −∞ is never drawn.
    rng: a np.random.Generator; one uniform number a row is used, none at temperature 0.
    Costs O(V). Raises ValueError on T < 0 or NaN, on NaN or +∞ logits, on a row of all −∞.
    Source: Devroye (1986), "Non-Uniform Random Variate Generation", section III.2.
    """
    z = scaled(logits, temperature)
    if temperature == 0:
        return as_ids(z.argmax(axis=-1))
    cdf = np.cumsum(np.exp(z), axis=-1)                    # (..., V), not yet divided by its end
    u = rng.random(z.shape[:-1] + (1,)) * cdf[..., -1:]    # in [0, end): no id V, ever
    return as_ids((cdf <= u).sum(axis=-1))                 # the first id whose CDF passes u


def gumbel_sample(logits, rng, temperature=1.0):
    """Draw from the same distribution as `sample`: argmax of logits / temperature + Gumbel noise.

    Same shapes and errors. Uses V random numbers where `sample` uses one, but needs no sum, so
    each part of a vocabulary can be handled on its own and only the best of each compared.
    Source: Gumbel (1954); Maddison, Tarlow and Minka (2014), "A* Sampling", section 2.
    """
    z = scaled(logits, temperature)
    if temperature == 0:
        return as_ids(z.argmax(axis=-1))
    return as_ids((z + rng.gumbel(size=z.shape)).argmax(axis=-1))


def tempered(logits, temperature=1.0):
    """Return the distribution the samplers draw from: (..., V) logits -> (..., V) float64.

    softmax(logits / T); one-hot at the first maximum for T = 0, where softmax has no value.
    """
    z = scaled(logits, temperature)
    if temperature == 0:
        return (np.arange(z.shape[-1]) == z.argmax(axis=-1)[..., None]).astype(np.float64)
    p = np.exp(z)
    return p / p.sum(axis=-1, keepdims=True)


def scaled(logits, temperature):
    """Return (logits − their maximum) / T in float64: 0 at the best token, below 0 elsewhere.

    Taking the maximum off first keeps any T > 0 safe: the exponents are never positive. At T = 0
    the logits come back undivided. float64, since a sum over a large vocabulary is about to be
    compared with a random number of 53 bits.
    """
    z = np.asarray(logits, dtype=np.float64)
    if not temperature >= 0:
        raise ValueError(f"temperature must be 0 or more, not {temperature}")
    if z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(f"logits of shape {z.shape} offer no token; expected (V,) or (B, V)")
    peak = z.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError(f"a row of logits of shape {z.shape} has the maximum "
                         f"{peak[~np.isfinite(peak)][0]}; leave at least one token finite "
                         "and none NaN or +inf")
    z = z - peak
    if temperature == 0:
        return z
    if temperature == math.inf:
        return np.where(np.isneginf(z), z, 0.0)  # −∞ / ∞ would be NaN: a mask outlives any T
    with np.errstate(over="ignore"):             # a tiny T may send exponents to −∞, p to 0
        return z / temperature


def as_ids(ids):
    """Return one id as a Python int, several as int32."""
    return int(ids) if np.ndim(ids) == 0 else ids.astype(np.int32)
