"""Day 36 · bfloat16: the upper half of a float32, without a NumPy type of its own.

A bfloat16 has float32's sign and 8 bits of exponent and 7 of its 23 bits of fraction. NumPy has no
such type, so here it is a uint16 that holds the bits. Widening is exact: 16 zeros are appended.
Narrowing rounds to the nearest, and to an even last bit where two are equally near.
Left out: arithmetic on these numbers, and why one trains with them (day 37).
Source: IEEE 754-2019, section 4.3.1, roundTiesToEven.
"""

import numpy as np


def to_bfloat16(x):
    """float32 or float16 (...) -> the bits, uint16 (...). A NaN stays NaN; from about 3.396e38 on
    the nearest is infinity.

    Raises ValueError for other types: a float64 would be rounded twice, once on the way.

    >>> [hex(bits) for bits in to_bfloat16(np.float32([1, 1.00390625, 1.01171875]))]
    ['0x3f80', '0x3f80', '0x3f82']
    """
    x = np.asarray(x)
    if x.dtype.kind != "f" or x.dtype.itemsize > 4:
        raise ValueError(f"bfloat16 is rounded from float32 or float16, not from {x.dtype}: "
                         "use astype(np.float32) if rounding twice does not matter")
    flat = x.astype(np.float32).reshape(-1)
    bits = flat.view(np.uint32)
    last = (bits >> 16) & 1                        # the last bit that stays: an odd one rounds up
    rounded = (bits + (0x7FFF + last)) >> 16
    quiet = (bits >> 16) | 0x0040                  # keeps a NaN from becoming infinity
    return np.where(np.isnan(flat), quiet, rounded).astype(np.uint16).reshape(x.shape)


def from_bfloat16(bits):
    """uint16 (...) -> float32 (...), exactly. Raises ValueError for another type."""
    bits = np.asarray(bits)
    if bits.dtype.kind != "u" or bits.dtype.itemsize != 2:
        raise ValueError(f"the bits of a bfloat16 are uint16, not {bits.dtype}")
    wide = bits.reshape(-1).astype(np.uint32) << 16
    return wide.view(np.float32).reshape(bits.shape)
