"""Day 44 · The same function with outliers in it, and the cure.

Both plants scale something up and what meets it down, so the float32 model stays the same.
"""

import numpy as np

from days.day44.study import inputs_seen
from llm.quantize.smooth import factors, move

NORMS = {"norm1": "qkv", "norm2": "up"}


def in_activations(arch, weights, size, channel):
    """One channel behind both norms of each block `size` times as large, its weights smaller."""
    divisor = np.ones(arch.C, np.float32)
    divisor[channel] = 1 / size
    return smoothed(arch, weights, lambda name: divisor)


def in_keys(arch, weights, size):
    """One pair of channels of every key `size` times as large, those of the queries smaller.

    Rotation mixes the channels i and i + D/2 of a head, so both of a pair get the same factor.
    """
    H, K, D, new = arch.H, arch.K, arch.D, dict(weights)
    factor = np.ones((H + 2 * K, D), np.float32)
    factor[H:H + K, [0, D // 2]], factor[:H, [0, D // 2]] = size, 1 / size
    for i in range(arch.L):
        for name in (f"blocks.{i}.qkv.w", f"blocks.{i}.qkv.b"):
            if name in weights:
                new[name] = weights[name] * factor.reshape(-1)
    return new


def smoothed(arch, weights, divisor):
    """weights with divisor(name of the matrix) moved from each norm into the matrix behind it."""
    for i in range(arch.L):
        for norm, matrix in NORMS.items():
            name = f"blocks.{i}.{matrix}.w"
            vectors = [f"blocks.{i}.{norm}.{part}" for part in ("gain", "bias")]
            weights = move(weights, divisor(name), [v for v in vectors if v in weights], [name])
    return weights


def smoothquant(arch, weights, windows, alpha=0.5):
    """SmoothQuant behind both norms of each block, its largest activations measured on windows."""
    seen = inputs_seen(arch, weights, windows)
    return smoothed(arch, weights, lambda name: factors(
        np.abs(seen[name]).max(axis=0), np.abs(weights[name]).max(axis=1), alpha))
