"""Day 48 · RMSNorm, a LayerNorm that keeps the mean, and SwiGLU, a gate; each with its VJP.

Both are what Llama-like models use in place of day 21's LayerNorm and day 10's GELU. Left out: the
matrices around the gate (layers/gated.py) and other gates (a sigmoid, GELU: an exercise).
"""

import math

import numpy as np

from llm.functions.dense import sigmoid


def rmsnorm(x, gain, eps=1e-5):
    """x (..., C), gain (C,) -> x / √(mean(x²) + ε) · gain, the mean over the last axis.

    The result has x's dtype; float16 is summed in float32. Every row is divided by its `size`
    before it is squared, so that no finite row overflows: what stands under the root is at most 2.
    Returns out and saved = (x̂, 1/√(mean(x²) + ε), gain), x̂ being x · rstd.
    Raises ValueError if gain is not (C,), C is 0, or ε is not a positive number.
    Source: Zhang & Sennrich (2019); ε as in Llama.
    """
    x, gain = floating(x), floating(gain)
    check_rmsnorm(x, gain)
    rows = x.astype(np.result_type(x, np.float32), copy=False)
    root = root_of(eps, rows.dtype)
    size = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), root)              # (..., 1)
    rows = rows / size                                                             # at most 1
    rms = np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + (root / size) ** 2)
    normal = rows / rms
    return (normal * gain).astype(x.dtype, copy=False), (normal, 1 / rms / size, gain)


def rmsnorm_vjp(dout, normal, rstd, gain):
    """dx = rstd · (d − x̂ · mean(d · x̂)), d = dout · gain: d without its part along x̂.

    LayerNorm's formula less one term: moving x along 1 does change what comes out.
    """
    wide = dout.astype(normal.dtype, copy=False)
    d = wide * gain
    dx = rstd * (d - normal * (d * normal).mean(axis=-1, keepdims=True))
    dgain = (wide * normal).sum(axis=tuple(range(dout.ndim - 1)))
    return dx.astype(dout.dtype, copy=False), dgain.astype(gain.dtype, copy=False)


def swiglu(gate, up):
    """silu(gate) · up, elementwise; gate, up (..., F) -> (..., F). Saves both.

    Raises ValueError if the shapes differ. Source: Shazeer (2020), eq. 5 (and 6 with `down`).
    """
    gate, up = floating(gate), floating(up)
    if gate.shape != up.shape:
        raise ValueError(f"swiglu: gate {gate.shape} and up {up.shape} must have one shape")
    return gate * sigmoid(gate) * up, (gate, up)


def swiglu_vjp(dout, gate, up):
    """dgate = dout · up · silu′(gate), dup = dout · silu(gate); silu′ = s(1 + gate·(1 − s)).

    The sigmoid s is computed again: an exponential is cheaper than one more array to keep.
    """
    s = sigmoid(gate)
    return dout * up * (s * (1 + gate * (1 - s))), dout * (gate * s)


def floating(x):
    """An array of floats: integers and lists become float64, as on day 10."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def check_rmsnorm(x, gain):
    """ValueError unless there is at least one channel, and gain is one number a channel."""
    if x.shape[-1:] in ((), (0,)) or gain.shape != x.shape[-1:]:
        raise ValueError(f"rmsnorm of {x.shape} wants at least one channel, and a gain of shape "
                         f"{x.shape[-1:]}, got {gain.shape}")


def root_of(eps, dtype):
    """√ε as a number of this dtype; ValueError where it is not a positive one."""
    root = dtype.type(math.sqrt(eps)) if eps > 0 else 0
    if not 0 < root < np.inf:
        raise ValueError(f"rmsnorm: eps must be a positive number that {dtype} can hold, not "
                         f"{eps}: a row of zeros is divided by its root")
    return root
