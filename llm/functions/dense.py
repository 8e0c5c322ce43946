"""Day 10 · The linear layer y = xW + b, and six activations.

Arrays in, arrays out, forward only: the gradients are day 14's, layers that own their
parameters are day 16's. Each function takes any leading axes and keeps the dtype: float32
stays float32. Integers and lists become float64 where the function leaves the integers. Left out:
convolutions, and activations with parameters of their own.
"""

import math

import numpy as np

GELU_SLOPE = math.sqrt(2 / math.pi)  # tanh(GELU_SLOPE·x) and erf(x/√2) have one slope at 0
GELU_CUBIC = 0.044715                # the published cubic term
FAR = 30.0                           # beyond, GELU is 0 or x to the last bit, and x² may overflow


def linear(x, w, b=None):
    """y = xW + b over any leading axes: x (..., Cin), w (Cin, Cout), b (Cout,) → (..., Cout).

    2·N·Cin·Cout FLOPs for N = the product of the leading axes, and N·Cout more for b.
    Raises: ValueError, with the shapes, where they do not fit.
    Source: Rosenblatt 1958; the layout (Cin, Cout) is GPT-2's. PyTorch stores the transpose.
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"linear: x {x.shape} does not fit w {w.shape}; the last axis of x "
                         "must equal the first axis of w (is w transposed?)")
    cin, cout = w.shape
    rows = math.prod(x.shape[:-1])
    y = x.reshape(rows, cin) @ w  # (rows, Cout): one product, however many leading axes
    if b is not None:
        if np.shape(b) != (cout,):
            raise ValueError(f"linear: b {np.shape(b)} does not fit w {w.shape}; "
                             f"b must have the shape ({cout},)")
        y = y + b
    return y.reshape(*x.shape[:-1], cout)


def relu(x):
    """max(x, 0), elementwise. Source: Nair & Hinton 2010."""
    return np.maximum(x, 0)


def tanh(x):
    """(eˣ − e⁻ˣ)/(eˣ + e⁻ˣ) = 2·sigmoid(2x) − 1, elementwise; between −1 and 1."""
    return np.tanh(x)


def sigmoid(x):
    """1/(1 + e⁻ˣ), elementwise; between 0 and 1, and no overflow for any finite x.

    Below 0 it is computed as eˣ/(1 + eˣ), so the exponent is never positive.
    """
    x = np.asarray(x)
    e = np.exp(-np.abs(x))                  # in (0, 1]
    return np.maximum(e, x >= 0) / (1 + e)  # 1 above where x ≥ 0; np.where takes far longer


def gelu(x):
    """x·½(1 + tanh(√(2/π)(x + 0.044715x³))), elementwise: GPT-2's form, within 5e-4 of x·Φ(x).

    Source: Hendrycks & Gimpel 2016, section 2.
    """
    x = np.asarray(x)
    near = np.clip(x, -FAR, FAR)
    return 0.5 * x * (1 + np.tanh(GELU_SLOPE * near * (1 + GELU_CUBIC * near * near)))


def gelu_erf(x):
    """x·Φ(x), elementwise, Φ the normal distribution function: exact, and slow.

    Φ(x) = ½ erfc(−x/√2), not ½(1 + erf(x/√2)): the sum cancels for x < 0. NumPy has no erfc;
    Python's, element by element, is right to the last digits of float64.
    Source: Hendrycks & Gimpel 2016, section 2, the exact form.
    """
    x = np.asarray(x)
    z = (x.astype(np.float64) * -math.sqrt(0.5)).ravel().tolist()
    phi = 0.5 * np.fromiter(map(math.erfc, z), np.float64, len(z)).reshape(x.shape)
    kind = x.dtype if np.issubdtype(x.dtype, np.floating) else np.float64
    return x * phi.astype(kind)


def silu(x):
    """x·sigmoid(x), elementwise; also called swish.

    Source: Elfwing et al. 2017; Ramachandran et al. 2017.
    """
    return x * sigmoid(x)
