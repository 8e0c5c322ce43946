"""Day 20 · Initialisation: how large random weights must be, so that signals keep their size.

The functions that end in a standard deviation are for `Linear(…, std=…)`. `forecast` says what a
deep network does with the size of its signals and gradients before any weight is trained, and
`restart` draws the matrices of a finished model anew. An activation is given as its pair of day 14,
(f, f_vjp), so that its slope needs no second formula.
Left out: networks whose inputs repeat (the correlations of Poole et al., 2016), and convolutions.
"""

import math

import numpy as np

from llm.layers.module import Module

ROOT_2, STEP = math.sqrt(2), 0.01
POINTS = np.arange(-12 + STEP / 2, 12, STEP)             # midpoints: none is 0, where ReLU bends
DENSITY = STEP * np.exp(-POINTS**2 / 2) / math.sqrt(2 * math.pi)


def lecun(cin):
    """1/√Cin: a sum of Cin products keeps the mean square of its inputs."""
    return 1 / math.sqrt(positive(cin, "inputs"))


def xavier(cin, cout, gain=1.0):
    """gain · √(2/(Cin + Cout)), between what the forward and the backward pass want.

    Source: Glorot & Bengio (2010), equation 12, there for a variance.
    """
    return gain * math.sqrt(2 / (positive(cin, "inputs") + positive(cout, "outputs")))


def kaiming(cin, gain=ROOT_2):
    """gain/√Cin, by default for ReLU, which halves the mean square. Source: He et al. (2015)."""
    return gain * lecun(cin)


def residual(std, layers):
    """std/√(2L): for the last matrix of each of the 2L branches of L blocks.

    Source: Radford et al. (2019), section 2.3: 1/√N for N residual layers, here N = 2L.
    """
    return std / math.sqrt(2 * positive(layers, "layers"))


def positive(number, name):
    """The number, or ValueError where it is not 1 or more."""
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, not {number}")
    return number


def moments(activation, s):
    """E[f(z)²] and E[f′(z)²] for z normal with mean 0 and variance s ≥ 0.

    Sums over 2,400 midpoints, √s/100 apart: exact to 1e-9 for ReLU at any s, whose two halves weigh
    the same, and up to s = 400 for tanh, GELU and what else bends over a width of about 1.

    >>> from llm.grad import rules
    >>> [round(float(m), 9) for m in moments((rules.relu, rules.relu_vjp), 4.0)]
    [2.0, 0.5]
    """
    f, f_vjp = activation
    z = math.sqrt(s) * POINTS
    out, saved = f(z)
    slope, *_ = f_vjp(np.ones_like(z), *saved)
    return DENSITY @ out**2, DENSITY @ slope**2


def keep(activation):
    """The gain that brings sums z of mean square 1 back to 1 after f and the next matrix.

    g = 1/√E[f(z)²], with std = g/√Cin: √2 for ReLU, 1.59 for tanh. Whether sums of another size
    are drawn towards 1 or away from it is another question; `forecast` answers it.
    """
    return 1 / math.sqrt(moments(activation, 1.0)[0])


def forecast(activation, gain, layers, q=1.0):
    """Mean squares through layers x ← f(x W), W normal with std gain/√Cin, in the limit of width.

    q: mean square of the input. Returns (forward, backward), float64 (layers + 1,) each:
    forward[l] is that of x after l layers; backward[l] that of the gradient with respect to it,
    by that at the output (so backward[-1] is 1), where all widths are equal. Assumes, as is usual,
    that gradients are independent of the weights and slopes they meet. Biases are 0.
    Source: Poole et al. (2016), equation 3; Schoenholz et al. (2017) on backpropagation.
    """
    forward, factors = [q], []
    for _ in range(layers):
        value, slope = moments(activation, gain**2 * forward[-1])
        forward.append(value)
        factors.append(gain**2 * slope)
    return np.array(forward), np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def orthogonal(cin, cout, rng, gain=1.0, dtype=np.float32):
    """A random (Cin, Cout) matrix, orthonormal along its shorter side, then scaled: rms gain/√Cin.

    Square and with gain 1 it changes no length at all. Source: Saxe et al. (2014).
    """
    long, short = max(cin, cout), min(positive(cin, "inputs"), positive(cout, "outputs"))
    q, r = np.linalg.qr(rng.standard_normal((long, short)))
    q *= np.sign(np.diag(r))                     # else QR's own choice of signs is not uniform
    return (gain * math.sqrt(long / cin) * (q if cin == long else q.T)).astype(dtype)


def restart(model, rng, std):
    """Draw every matrix of a model anew, in place: std(path, Cin, Cout) -> standard deviation.

    Matrices are parameters (Cin, Cout) whose own name is "w"; tables, biases and gains stay.
    Raises ValueError where `model` is no Module.
    """
    if not isinstance(model, Module):
        raise ValueError(f"restart wants a Module, not a {type(model).__name__}")
    for path, p in model.named_parameters().items():
        if p.data.ndim == 2 and path.split(".")[-1] == "w":
            p.data[...] = std(path, *p.data.shape) * rng.standard_normal(p.data.shape)
