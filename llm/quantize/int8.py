"""Day 44 · Numbers in 8 bits: the affine map, whom a scale serves, and how its range is chosen.

A real x is stored as an integer q with x ≈ scale · (q − zero). `symmetric` fixes zero at 0 and
uses −127 … 127; affine moves the grid to where the numbers are and uses −128 … 127. One scale may
serve a whole tensor, the numbers along one axis, or groups of them. 0.0 is always stored exactly.
Fewer bits, 2 to 7, are stored in bytes all the same: packing them is day 45's. Left out: training
with rounded weights, and scales that are powers of two.
Source: Jacob and others (2018), equation 1; Nagel and others (2021), section 2.2.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantised:
    """x ≈ scale · (q − zero). scale and zero have x's shape, but along `axis` one entry a group.

    axis None: one scale for all, of shape (1, …, 1). group: so many neighbours along the axis
    share a scale; the last group is shorter where the length is no multiple.
    """

    q: np.ndarray                       # int8, the shape of x
    scale: np.ndarray                   # float32, or float64 where x was float64; > 0
    zero: np.ndarray                    # int8; zeros where symmetric
    bits: int
    symmetric: bool
    axis: int | None
    group: int | None

    @property
    def shape(self):
        """That of x."""
        return self.q.shape

    def bytes(self):
        """Of the integers, packed tightly, the scales, and the zeros where they are needed."""
        zeros = 0 if self.symmetric else self.zero.nbytes
        return -(-self.q.size * self.bits // 8) + self.scale.nbytes + zeros


def limits(bits, symmetric):
    """The least and the greatest integer: −127 and 127, or −128 and 127, for 8 bits."""
    if bits not in range(2, 9):
        raise ValueError(f"{bits} bits: wanted 2 … 8")
    top = 2 ** (bits - 1) - 1
    return -top if symmetric else -top - 1, top


def grid(low, high, bits, symmetric):
    """Ends of ranges, two arrays of one shape -> scale (their type), zero (int8), of that shape.

    A range is widened until 0 lies in it; then 0 is a point of the grid, and every x of the range
    lies at most scale / 2 from one. A range of zeros, or one so small that the scale would lose
    digits, gets the scale 1: all its numbers become 0.
    """
    least, top = limits(bits, symmetric)
    kind = np.result_type(low, high)
    low, high = np.minimum(low, 0).astype(np.float64), np.maximum(high, 0).astype(np.float64)
    if symmetric:
        low, high = -np.maximum(-low, high), np.maximum(-low, high)
    scale = ((high - low) / (top - least)).astype(kind)
    scale = np.where(scale < np.finfo(kind).tiny, kind.type(1), scale)
    zero = np.zeros_like(low) if symmetric else np.clip(np.rint(least - low / scale), least, top)
    return scale, zero.astype(np.int8)


def quantize(x, bits=8, symmetric=True, axis=None, group=None, calibrate=None):
    """A float array of any shape -> Quantised.

    axis: the numbers along it share a scale. For W (inputs, outputs), axis=0 is a scale for each
    output channel; for activations (n, C), axis=-1 is one for each token. None: one for all.
    group: only so many neighbours along the axis share one. calibrate: from llm/quantize/
    calibrate.py, where the range of a scale ends; None: where the numbers do.
    Raises ValueError on an empty x, numbers that are not finite, and a group without an axis.
    """
    x = as_floats(x)
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} of an array of shape {x.shape}")
    if group is not None and (axis is None or group < 1):
        raise ValueError(f"groups of {group} along axis {axis}: wanted 1 or more, and an axis")
    axis = None if axis is None else axis % x.ndim
    ends = [(calibrate or min_max)(part, bits, symmetric) for part in pieces(x, axis, group)]
    scale, zero = grid(*(np.concatenate(end, axis=-1) for end in zip(*ends)), bits, symmetric)
    back = (lambda a: a.reshape((1,) * x.ndim)) if axis is None else (
        lambda a: np.moveaxis(a, -1, axis))
    scale, zero = back(scale), back(zero)
    q = np.rint(x / spread(scale, x.shape, axis, group)) + spread(zero, x.shape, axis, group)
    return Quantised(np.clip(q, *limits(bits, symmetric)).astype(np.int8), scale, zero, bits,
                     symmetric, axis, group)


def dequantize(quantised):
    """The floats that are meant: scale · (q − zero), in the scale's type.

    q − zero can be −255 … 255, so it is taken in 16 bits.
    """
    shape, axis, group = quantised.shape, quantised.axis, quantised.group
    steps = quantised.q.astype(np.int16) - spread(quantised.zero, shape, axis, group)
    return spread(quantised.scale, shape, axis, group) * steps.astype(quantised.scale.dtype)


def min_max(rows, bits=8, symmetric=True):
    """rows (…, n) -> the ends of each, two (…): nothing is cut off."""
    return rows.min(axis=-1), rows.max(axis=-1)


def pieces(x, axis, group):
    """x cut into what shares a scale: arrays (…, groups, n); whole groups, then the rest."""
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, -1)
    n = rows.shape[-1]
    size = min(group or n, n)
    whole = n // size * size
    parts = [rows[..., :whole].reshape(*rows.shape[:-1], -1, size), rows[..., None, whole:]]
    return [part for part in parts if part.size]


def spread(a, shape, axis, group):
    """Scales or zeros, one a group -> an array that broadcasts with one of `shape`."""
    if axis is None or group is None:
        return a
    return np.repeat(a, group, axis)[(slice(None),) * axis + (slice(shape[axis]),)]


def as_floats(x):
    """x as float32, or float64 where it is that; ValueError if it is empty or not finite."""
    x = np.asarray(x)
    x = x if x.dtype == np.float64 else x.astype(np.float32)
    if x.size == 0:
        raise ValueError(f"an array of shape {x.shape} has nothing to quantise")
    if not np.isfinite(x).all():
        raise ValueError(f"an array of shape {x.shape} with inf or NaN has no range: find out "
                         "where they come from first")
    return x


def sqnr(x, approximation):
    """Signal to quantisation noise in decibels: 10·log₁₀(Σx² / Σ(x − x̂)²); inf if all is exact."""
    x = np.asarray(x, np.float64)
    noise = ((x - approximation) ** 2).sum()
    return float(10 * np.log10((x * x).sum() / noise)) if noise else float("inf")
