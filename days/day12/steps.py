"""Day 12 · How wrong a measured derivative of exp is, and the step that should be best."""

import numpy as np

from llm.grad.check import STEP
from llm.grad.dual import derivative, exp


def error(kind, x, h):
    """Median relative error of the measured derivative of exp over the points x, in x's dtype."""
    above, below = x + x.dtype.type(h), x - x.dtype.type(h) if kind == "central" else x
    with np.errstate(divide="ignore", invalid="ignore"):  # a step too small to change x at all
        slope = (np.exp(above) - np.exp(below)) / (above - below)
    miss = np.abs(slope.astype(float) / np.exp(x.astype(float)) - 1)
    return float(np.median(miss)) if np.isfinite(miss).all() else float("nan")


def dual_miss(x):
    """Median relative error of a dual number's derivative of exp, against 80-bit arithmetic."""
    exact = np.exp(x.astype(np.longdouble))
    return float(np.median(np.abs(derivative(exp, x) / exact - 1)))


def predicted_step(kind, dtype, rounding=None):
    """Where truncation plus rounding is smallest, for |f| = |f″| = |f‴|.

    The rounding error is `rounding` · u / h; by default its bound, 2 u/h or 1 u/h.
    """
    unit = float(np.finfo(dtype).eps) / 2
    if kind == "forward":
        return (2 * unit * (2 if rounding is None else rounding)) ** 0.5
    return (3 * unit * (1 if rounding is None else rounding)) ** (1 / 3)


def observed_rounding(kind, dtype, steps, curve, best):
    """[c, step]: c = median of error · h / u where rounding rules, and the best step for that c."""
    rules = (steps < best / 10) & (steps > best / 1000)  # a decade left of the lowest point
    c = float(np.nanmedian(curve[rules] * steps[rules]) / (np.finfo(dtype).eps / 2))
    return [c, predicted_step(kind, dtype, c)]


def float32_formula(points):
    """Median relative error of central differences of t²/2 where ½ is an np.float32."""
    f, h = lambda t: np.float32(0.5) * t * t, float(STEP)  # float32 · Python float is float32
    return float(np.median([abs((f(t + h) - f(t - h)) / (2 * h) / t - 1)
                            for t in points.tolist()]))
