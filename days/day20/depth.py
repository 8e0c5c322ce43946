"""Day 20 · Deep untrained networks: what becomes of signals, gradients and half precision."""

import math

import numpy as np

from llm.grad import rules
from llm.layers.init import kaiming, orthogonal, residual

RELU, TANH, GELU = ((rules.relu, rules.relu_vjp), (rules.tanh, rules.tanh_vjp),
                    (rules.gelu, rules.gelu_vjp))


def normal(gain, width, rng):
    """One matrix (width, width) of standard deviation gain/√width, float32."""
    return np.float32(kaiming(width, gain)) * rng.standard_normal((width, width), np.float32)


def signals(activation, gain, layers, width, rows, rng, make=normal, dtype=np.float32):
    """Root mean squares through one network: (activations, gradients), (layers + 1,) each, and
    the share of zeros in the gradient at the input.

    `rows` inputs and as many gradients at the output are normal numbers of mean square 1. Products
    are in float32; what a layer hands on is rounded to `dtype`.
    """
    f, f_vjp = activation
    x = rng.standard_normal((rows, width), np.float32).astype(dtype)
    sizes, matrices, kept = [size(x)], [], []
    with np.errstate(over="ignore", invalid="ignore"):           # float16 may overflow: that counts
        for _ in range(layers):
            matrices.append(make(gain, width, rng))
            out, saved = f((x.astype(np.float32) @ matrices[-1]).astype(dtype).astype(np.float32))
            x = out.astype(dtype)
            kept.append(saved)
            sizes.append(size(x))
        d = rng.standard_normal((rows, width), np.float32).astype(dtype)
        gradients = [size(d)]
        for w, saved in zip(reversed(matrices), reversed(kept)):
            inner, *_ = f_vjp(d.astype(np.float32), *saved)
            d = (inner.astype(dtype).astype(np.float32) @ w.T).astype(dtype)
            gradients.append(size(d))
    return sizes, gradients[::-1], float(np.mean(d == 0))


def turned(gain, width, rng):
    """One random rotation (width, width), times gain."""
    return orthogonal(width, width, rng, gain)


def size(x):
    """Root mean square in float64; ∞ or NaN where x holds one."""
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


def middle(activation, gain, layers, width, rows, seeds, **options):
    """(activations, gradients) of `signals`, at each layer the median over one network per seed."""
    found = [signals(activation, gain, layers, width, rows, rng, **options) for rng in seeds]
    return [np.median([one[i] for one in found], axis=0).tolist() for i in (0, 1)]


def scatter(width, layers, nets, rng, make=normal):
    """ln of the mean square after `layers` of ReLU at gain √2, for each of `nets` networks.

    −∞ for a network that is dead: all units of one of its layers are 0.
    """
    found = []
    for _ in range(nets):
        x = np.ones((1, width), np.float32)
        for _ in range(layers):
            x = np.maximum(x @ make(math.sqrt(2), width, rng), 0)
        found.append(2 * math.log(size(x)) if x.any() else -math.inf)
    return np.array(found)


def branches(width, blocks, rows, scaled, normed, rng):
    """Root mean squares of a stream x ← x + relu(n W₁) W₂, at first and after each branch.

    A block has two branches. n is x, or with `normed` x divided by the root mean square of each
    row. W₁ is for ReLU, W₂ keeps the size; with `scaled` W₂ is divided by √(2·blocks).
    """
    x = rng.standard_normal((rows, width), np.float32)
    std = residual(kaiming(width, 1.0), blocks) if scaled else kaiming(width, 1.0)
    sizes = [size(x)]
    for _ in range(2 * blocks):
        n = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) if normed else x
        w1, w2 = (rng.standard_normal((width, width), np.float32) for _ in range(2))
        x = x + np.maximum(n @ (np.float32(kaiming(width)) * w1), 0) @ (np.float32(std) * w2)
        sizes.append(size(x))
    return sizes


def half(activation, gain, layers, width, rows, rng):
    """Signals kept in float16: [first layer with an infinity, last size, share of gradients gone].

    The first is None where there is no infinity, and the other two are None where there is one:
    after it come NaNs, and gradients say nothing.
    """
    sizes, _, gone = signals(activation, gain, layers, width, rows, rng, dtype=np.float16)
    broken = np.flatnonzero(~np.isfinite(sizes))
    return [int(broken[0]), None, None] if len(broken) else [None, sizes[-1], gone]
