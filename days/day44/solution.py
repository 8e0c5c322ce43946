"""Day 44 · Solutions of the exercises."""

import math

import numpy as np

from llm.quantize.int8 import dequantize, quantize


def break_the_twelfth(n):
    whole = np.arange(n) % 127 + 1.0
    whole[0] = 127                               # so the scale is 1
    half = np.arange(n) % 126 + 0.5              # all in the middle between two points
    half[0] = 127
    return whole, half


def split_product(x, w, threshold):
    large = (np.abs(x) > threshold).any(axis=0)
    y = x[:, large] @ w[large]
    if not large.all():
        rest = quantize(x[:, ~large], axis=1), quantize(w[~large], axis=0)
        y = y + dequantize(rest[0]) @ dequantize(rest[1])
    return y


def scale_in_integers(total, scale):
    fraction, exponent = math.frexp(scale)       # scale = fraction · 2^exponent, ½ ≤ fraction < 1
    m, shift = round(fraction * 2**31), 31 - exponent
    if m == 2**31:
        m, shift = m // 2, shift - 1
    return (total * m + (1 << (shift - 1))) >> shift
