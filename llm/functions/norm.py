"""Day 21 · Normalisation: LayerNorm over the channels, BatchNorm over the batch; each with its VJP.

Both subtract a mean and divide by a standard deviation, then let the model choose a new scale and
shift. They differ in the axis: LayerNorm looks at one token's C channels, BatchNorm at one
channel's values over all tokens. Left out: running statistics, which live in the layer
(layers/norm.py), and RMSNorm (day 48).
"""

import numpy as np

from llm.functions.sums import total


def layernorm(x, gain, bias, eps=1e-5):
    """x (..., C) -> (x − mean) / √(var + ε) · gain + bias, mean and var over the last axis.

    Returns out and saved = (x̂, 1/√(var + ε), gain).
    Raises ValueError if gain or bias is not (C,). Source: Ba et al. (2016), eq. 4.
    """
    check("layernorm", x, gain, bias)
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / root_mean_square(centred, eps)                                      # (..., 1)
    normal = centred * rstd
    return normal * gain + bias, (normal, rstd, gain)


def root_mean_square(x, eps):
    """√(mean of x² over the last axis + ε), (..., 1), also where the squares leave x's range."""
    with np.errstate(over="ignore"):
        square = (x * x).mean(axis=-1, keepdims=True)
    if np.isfinite(square).all():
        return np.sqrt(square + eps)
    largest = np.abs(x).max(axis=-1, keepdims=True)           # ε is nothing beside such numbers
    largest = np.where(np.isfinite(square), x.dtype.type(1), largest)
    part = x / largest
    return largest * np.sqrt((part * part).mean(axis=-1, keepdims=True) + eps / largest / largest)


def layernorm_vjp(dout, normal, rstd, gain):
    """dout (..., C) -> dx (..., C), dgain (C,), dbias (C,).

    dx = rstd · (d − mean(d) − x̂ · mean(d · x̂)) with d = dout · gain: what is left of d after its
    parts along 1 and along x̂ are taken away, since moving x along those changes nothing.
    """
    axes = tuple(range(dout.ndim - 1))
    d = dout * gain
    dx = rstd * (d - d.mean(axis=-1, keepdims=True)
                 - normal * (d * normal).mean(axis=-1, keepdims=True))
    return dx, total(dout * normal, axes), total(dout, axes)


def batchnorm(x, gain, bias, eps=1e-5):
    """x (..., C), normalised per channel over all other axes; the training form.

    Returns out and saved = (x̂, 1/√(var + ε), gain). Raises ValueError if gain or bias is not
    (C,), or there are less than two rows. Source: Ioffe & Szegedy (2015), Algorithm 1.
    """
    check("batchnorm", x, gain, bias)
    if x.size < 2 * x.shape[-1]:
        raise ValueError(f"batchnorm in training needs more than one row, got shape {x.shape}")
    axes = tuple(range(x.ndim - 1))
    rows = x.size // x.shape[-1]
    centred = x - total(x, axes) / rows
    rstd = 1 / np.sqrt(total(centred * centred, axes) / rows + eps)                # (C,)
    normal = centred * rstd
    return normal * gain + bias, (normal, rstd, gain)


def batchnorm_vjp(dout, normal, rstd, gain):
    """The same projection as layernorm's, along the batch instead of the channels."""
    axes = tuple(range(dout.ndim - 1))
    dgain, dbias = total(dout * normal, axes), total(dout, axes)
    rows = dout.size // dout.shape[-1]
    dx = gain * rstd * (dout - dbias / rows - normal * (dgain / rows))
    return dx, dgain, dbias


def check(name, x, gain, bias):
    """ValueError unless gain and bias are one number a channel."""
    if not gain.shape == bias.shape == x.shape[-1:] != ():
        raise ValueError(f"{name} of {x.shape} wants gain and bias of shape {x.shape[-1:]}, "
                         f"got {gain.shape} and {bias.shape}")
