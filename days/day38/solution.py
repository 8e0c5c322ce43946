"""Day 38 · Solutions."""

import math

import numpy as np


def exp_by_parts(x):
    n = math.floor(x / math.log(2) + 0.5)
    r = x - n * math.log(2)
    series = 1.0
    for k in range(8, 0, -1):                   # Horner: 1 + r(1 + r/2(1 + r/3(…)))
        series = 1 + r / k * series
    return n, r, math.ldexp(series, n)


def relu_twin():
    def f(x):
        return np.maximum(x, 0), (np.packbits(x > 0), x.shape)

    def f_vjp(dout, bits, shape):
        positive = np.unpackbits(bits, count=math.prod(shape)).reshape(shape)
        return (dout * positive,)

    return f, f_vjp
