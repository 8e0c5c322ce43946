"""Day 37 · Floating-point formats bit by bit: float32, float16 and bfloat16.

A number is a sign, an exponent field E and a fraction field F. With f bits of fraction,
    E between the two ends   ± (1 + F/2^f) · 2^(E − bias)        normal numbers
    E all zeros              ± (F/2^f) · 2^(1 − bias)            zero and the subnormal numbers
    E all ones               ± ∞ where F = 0, and NaN elsewhere
`encode` and `decode` do one number at a time, for all formats. `rounded` and `stochastic` work on
arrays. Left out: other roundings than these two, arithmetic in hardware, formats of 8 bits.
Source: IEEE 754-2019, sections 3.4 and 4.3.1. bfloat16: Kalamkar et al. (2019).
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.weights.bfloat16 import from_bfloat16, to_bfloat16


@dataclass(frozen=True)
class Format:
    """A binary format of 1 + exponent + fraction bits."""

    name: str
    exponent: int           # bits of the exponent field
    fraction: int           # bits of the fraction field

    bits = property(lambda self: 1 + self.exponent + self.fraction)
    bias = property(lambda self: 2 ** (self.exponent - 1) - 1)
    epsilon = property(lambda self: 2.0 ** -self.fraction)            # from 1 to the next number
    largest = property(lambda self: (2 - self.epsilon) * 2.0 ** self.bias)
    normal = property(lambda self: 2.0 ** (1 - self.bias))            # smallest with all its bits
    smallest = property(lambda self: self.normal * self.epsilon)      # smallest above 0
    infinity = property(lambda self: (2 ** self.exponent - 1) << self.fraction)      # its bits


FP32 = Format("float32", 8, 23)
FP16 = Format("float16", 5, 10)
BF16 = Format("bfloat16", 8, 7)


def fields(bits, format):
    """(sign, E, F), three whole numbers, of a number given by its bits.

    Raises ValueError where `bits` does not fit the format.

    >>> fields(0x3555, FP16)
    (0, 13, 341)
    """
    if not 0 <= bits < 2 ** format.bits:
        raise ValueError(f"{format.name} has {format.bits} bits; {bits:#x} does not fit: wanted 0 "
                         f"to {2 ** format.bits - 1:#x}")
    return (bits >> (format.bits - 1), bits >> format.fraction & (2 ** format.exponent - 1),
            bits & (2 ** format.fraction - 1))


def decode(bits, format):
    """The number, as a Python float, which holds every number of the three formats exactly.

    >>> decode(0x3555, FP16), decode(0x0001, FP16)
    (0.333251953125, 5.960464477539063e-08)
    """
    sign, E, F = fields(bits, format)
    if 2 ** format.exponent - 1 == E:
        value = math.nan if F else math.inf
    elif E == 0:
        value = math.ldexp(F, 1 - format.bias - format.fraction)
    else:
        value = math.ldexp(2 ** format.fraction + F, E - format.bias - format.fraction)
    return -value if sign else value


def encode(value, format):
    """The bits of the nearest number; of two equally near the one whose last bit is 0.

    value: a Python float. From half a step above the largest number on, the answer is infinity.

    >>> hex(encode(1 / 3, FP16)), hex(encode(1 / 3, BF16)), hex(encode(65520.0, FP16))
    ('0x3555', '0x3eab', '0x7c00')
    """
    sign = int(math.copysign(1, value) < 0) << (format.bits - 1)
    if math.isnan(value):
        return sign | format.infinity | 2 ** (format.fraction - 1)
    if value == 0 or math.isinf(value):
        return sign | (format.infinity if value else 0)
    lowest = 1 - format.bias
    exponent = max(math.frexp(value)[1] - 1, lowest)         # 2^exponent ≤ |value|, or subnormal
    steps = round(math.ldexp(abs(value), format.fraction - exponent))   # Python rounds ties to even
    # A normal number has 2^f ≤ steps: its leading 1 is not stored, but adds 1 to the exponent
    # field. A carry goes into the exponent by itself, and past the largest number to infinity.
    return sign | min((exponent - lowest << format.fraction) + steps, format.infinity)


def rounded(x, format):
    """float32 (...) -> float32 (...), each the nearest number of `format`, ties to even.

    Emulates storing x in the format and reading it back. NaN stays NaN; what is too large becomes
    infinity.
    Raises ValueError for other types: a float64 would be rounded twice.
    """
    single(x)
    if format == FP16:
        return to_float16_grid(x)
    if format == BF16:
        return from_bfloat16(to_bfloat16(x))
    if format == FP32:
        return x
    raise ValueError(f"no rounding to {format.name}: use FP32, FP16 or BF16")


def to_float16_grid(x):
    """What x.astype(np.float16).astype(np.float32) gives, at one speed for all numbers.

    NumPy's cast takes many times longer where a result is subnormal or rounds to zero.
    With 2^e ≤ |x| < 2^(e+1), the numbers of float16 near x lie 2^(e−10) apart. So far apart are
    float32's own numbers near m = 1.5 · 2^(e+13): adding m to x rounds x to that grid, ties to
    even, and subtracting m is exact. Below 2^-14, e stays at −14: the subnormal numbers.
    """
    power = (x.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)          # 2^e
    with np.errstate(over="ignore", invalid="ignore"):
        m = np.maximum(power, np.float32(FP16.normal)) * np.float32(1.5 * 2**13)
        out = (x + m) - m
        out = np.where(np.abs(out) <= np.float32(FP16.largest), out, x * np.float32(np.inf))
    return np.copysign(out, x)                                                    # also of a zero


def stochastic(x, rng):
    """float32 (...) -> float32 (...), each one of its two neighbours in bfloat16, at random.

    The upper one (in size) with the probability (|x| − lower)/(upper − lower), so that the mean
    is x. The 16 bits that fall away are this fraction: adding 16 random bits carries as often.
    NaN stays NaN. Raises ValueError for other types. Source: Gupta et al. (2015).
    """
    single(x)
    bits = x.reshape(-1).view(np.uint32)
    carried = bits + rng.integers(0, 2**16, bits.shape, dtype=np.uint32)
    kept = np.where(np.isnan(x).reshape(-1), bits | 0x00400000, carried) & np.uint32(0xFFFF0000)
    return kept.view(np.float32).reshape(x.shape)


def single(x):
    """ValueError unless x is a float32 array."""
    if getattr(x, "dtype", None) != np.float32:
        raise ValueError("halves are rounded from float32 arrays, not from "
                         f"{getattr(x, 'dtype', type(x).__name__)}: use x.astype(np.float32)")
