"""Day 37 · Exercises to build; `python -m days check 37` grades them."""

import math

import numpy as np

from llm.train.halves import BF16, FP16, rounded


def encode8(value):
    """The bits (0 … 255) of the nearest number in E4M3, a float8 for weights and activations.

    1 sign bit, 4 bits of exponent with bias 7, 3 bits of fraction. It departs from IEEE 754 at the
    top: there is no infinity, and the exponent 15 holds ordinary numbers but for the fraction 7,
    which is NaN (0x7f). So the largest number is 448, and here everything larger becomes 448, as
    when weights are stored ("saturating"). Ties go to even. Example::

        encode8(1.0), encode8(1000.0), encode8(2.0**-9)        # 0x38, 0x7e, 0x01

    Source: Micikevicius et al. (2022), FP8 Formats for Deep Learning, section 3.
    """
    raise NotImplementedError


def two_halves(w):
    """A float32 array as two bfloat16 ones: (high, low), float32 arrays on bfloat16's grid.

    high is the nearest to w, low the nearest to what is missing, so that high + low is w but for
    about 2⁻¹⁷ of it: master weights in 2 + 2 bytes of which the product reads only the first two.
    Example::

        two_halves(np.float32([1 + 2**-9]))                    # [1.], [0.00195312]
    """
    raise NotImplementedError


def compensated_sum(x, format):
    """The sum of a 1-D float32 array whose running total is stored in `format` after every step.

    A second number in the same format keeps what rounding took and gives it to the next term
    (Kahan's sum). Every intermediate result is rounded to the format. Returns a float. Example::

        compensated_sum(np.ones(5000, np.float32), FP16)       # 5000.0, where a plain sum is 2048
    """
    raise NotImplementedError


def check_encode8(f):
    """All 254 numbers, the middles between neighbours, both ends and NaN."""
    def number(bits):
        E, F = bits >> 3 & 15, bits & 7
        return (F / 8) * 2**-6 if E == 0 else (1 + F / 8) * 2.0 ** (E - 7)

    for bits in range(0x7F):
        assert f(number(bits)) == bits, f"{number(bits)} is {bits:#x}, not {f(number(bits)):#x}"
        assert f(-number(bits)) == bits | 0x80, f"-{number(bits)} is {bits | 0x80:#x}"
        if bits < 0x7E:
            middle = (number(bits) + number(bits + 1)) / 2
            even = bits + (bits & 1)
            assert f(middle) == even, f"{middle} lies between two and goes to the even {even:#x}"
            assert f(math.nextafter(middle, 0)) == bits, f"just below {middle}"
            assert f(math.nextafter(middle, 1e9)) == bits + 1, f"just above {middle}"
    for large in (449.0, 463.9, 464.0, 480.0, 1e30, math.inf):
        assert f(large) == 0x7E and f(-large) == 0xFE, f"{large} becomes 448"
    assert f(math.nan) & 0x7F == 0x7F, "NaN stays NaN"


def check_two_halves(f):
    """Both on the grid, the high one nearest, the sum within 2⁻¹⁷."""
    rng = np.random.default_rng(37)
    w = (rng.standard_normal(5000) * 10.0 ** rng.integers(-8, 8, 5000)).astype(np.float32)
    high, low = f(w)
    for part in (high, low):
        assert part.dtype == np.float32 and np.array_equal(part, rounded(part, BF16)), "the grid"
    assert np.array_equal(high, rounded(w, BF16)), "the high half is the nearest bfloat16"
    assert (np.abs(high + low - w) <= 2.0**-17 * np.abs(w)).all(), "the sum is too far from w"


def check_compensated_sum(f):
    """Ones past 2048, random numbers against float64, and the plain sum as a contrast."""
    assert f(np.ones(5000, np.float32), FP16) == 5000
    assert f(np.zeros(0, np.float32), FP16) == 0
    for format, seed in ((FP16, 0), (BF16, 1)):
        x = rounded(np.random.default_rng(seed).uniform(0, 1, 2000).astype(np.float32), format)
        exact = float(x.sum(dtype=np.float64))
        found = f(x, format)
        assert abs(found - exact) <= 2 * format.epsilon * exact, f"{found} for {exact}"
        assert found == float(rounded(np.float32([found]), format)[0]), "the total is stored"
