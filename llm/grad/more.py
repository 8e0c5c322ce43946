"""Day 14 · More pairs of forward and VJP, for losses and layers of the reader's own.

Written as those in rules.py: powers, exp, log, the exact GELU, the largest number along an axis,
softmax and its logarithm over any axis, and arrays put behind one another. The models of this
course do without most of them; losses of one's own do not.

Left out: exponents that vary (write exp(k · log x)), and sorting.
"""

import math

import numpy as np

from llm.functions import dense
from llm.functions.probability import log_softmax as log_softmax_of
from llm.functions.probability import softmax as softmax_of


def power(x, exponent):
    """x to the power of a plain number.

    Raises ValueError where the exponent is an array, or where an entry below 0 has no real power.
    """
    if np.ndim(exponent):
        raise ValueError(f"a power takes a plain number, not an array of shape "
                         f"{np.shape(exponent)}: write exp(k · log x)")
    exponent = float(exponent)
    if exponent % 1 and (x < 0).any():
        raise ValueError(f"x {np.shape(x)} has entries below 0, and only whole powers of those are "
                         f"real numbers, not {exponent}")
    return np.asarray(x**exponent), (x, exponent)


def power_vjp(dout, x, exponent):
    """k·x^(k−1); 0 where k is 0, also at x = 0."""
    return (dout * (exponent * x ** (exponent - 1)) if exponent else np.zeros_like(dout),)


def exp(x):
    """eˣ; the output is its own slope, so nothing else is saved."""
    out = np.exp(x)
    return out, (out,)


def exp_vjp(dout, out):
    return (dout * out,)


def log(x):
    """The natural logarithm. Raises ValueError where an entry is not above 0."""
    if (x <= 0).any():
        raise ValueError(f"the logarithm of x {np.shape(x)} needs entries above 0, and the "
                         f"smallest is {x.min()}; for log-probabilities use log_softmax")
    return np.log(x), (x,)


def log_vjp(dout, x):
    return (dout / x,)


def gelu_erf(x):
    """x·Φ(x), the exact form of day 10, which BERT and others use; GPT-2 has the tanh form."""
    return dense.gelu_erf(x), (x,)


def gelu_erf_vjp(dout, x):
    """Φ(x) + x·φ(x), with φ(x) = exp(−x²/2)/√(2π), the density whose integral is Φ."""
    z = (x.astype(np.float64) * -math.sqrt(0.5)).ravel().tolist()
    share = 0.5 * np.fromiter(map(math.erfc, z), np.float64, len(z)).reshape(x.shape)
    far = np.clip(x, -dense.FAR, dense.FAR)              # beyond, φ is 0, and x² may overflow
    density = np.exp(-0.5 * far * far) / math.sqrt(2 * math.pi)
    return (dout * (share.astype(x.dtype) + far * density),)


def largest(x, axis=None, keepdims=False):
    """The maximum over `axis` (an int, a tuple, or None for all). Raises ValueError if empty."""
    if not x.size:
        raise ValueError(f"x {np.shape(x)} is empty and has no largest entry")
    out = np.asarray(x.max(axis=axis, keepdims=keepdims))
    return out, (x, x.max(axis=axis, keepdims=True))


def largest_vjp(dout, x, top):
    """All to the largest entry. Where several are equal there is a kink; they share evenly."""
    first = x == top
    reduced = tuple(i for i, n in enumerate(top.shape) if n == 1)
    share = dout.reshape(top.shape) / np.maximum(first.sum(axis=reduced, keepdims=True), 1)
    return (np.where(first, share, 0).astype(x.dtype),)


def softmax(x, axis=-1):
    """Softmax over one axis; the rule of rules.py is the one for the last."""
    out = softmax_of(x, axis)
    return out, (out, axis)


def softmax_vjp(dout, p, axis):
    return (p * (dout - (dout * p).sum(axis=axis, keepdims=True)),)


def log_softmax(x, axis=-1):
    """log softmax over one axis: never the log of a probability that was rounded to 0."""
    out = log_softmax_of(x, axis)
    return out, (out, axis)


def log_softmax_vjp(dout, out, axis):
    """dout − p · Σ dout: raising all logits alike changes nothing, so the gradient sums to 0."""
    return (dout - np.exp(out) * dout.sum(axis=axis, keepdims=True),)


def cat(*arrays, axis=0):
    """The arrays joined along an existing axis, as np.concatenate does.

    Raises ValueError, with all shapes, where the other axes differ, and where a list is passed.
    """
    if any(isinstance(a, (list, tuple)) for a in arrays):
        raise ValueError("cat takes its arrays one by one: cat(a, b, axis=0), not cat([a, b])")
    shapes = [np.shape(a) for a in arrays]
    if len({len(s) for s in shapes}) != 1 or not -len(shapes[0]) <= axis < len(shapes[0]) or len(
            {(*s[:axis % len(s)], *s[axis % len(s) + 1:]) for s in shapes}) != 1:
        raise ValueError(f"cannot put {shapes} behind one another along axis {axis}: all other "
                         "axes must have equal lengths")
    return np.concatenate(arrays, axis), ([s[axis] for s in shapes], axis)


def cat_vjp(dout, lengths, axis):
    """Each array gets its own part back."""
    return tuple(np.split(dout, np.cumsum(lengths)[:-1], axis))
