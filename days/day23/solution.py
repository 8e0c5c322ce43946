"""Day 23 · Solutions of the exercises."""

import numpy as np

from llm.layers.module import parameter


def noise_scale(gradients):
    B = len(gradients)
    if B < 2:
        raise ValueError(f"{B} rows have no covariance: at least 2")
    mean = gradients.mean(axis=0)
    S = float(((gradients - mean) ** 2).sum() / (B - 1))
    G = float(mean @ mean) - S / B
    return S / G if G > 0 else np.inf


def per_layer_rates(parameters, wanted, make):
    rates = {}
    for name, p in parameters.items():
        if p.data.ndim < 2:
            continue
        copy = parameter(p.data.copy())
        copy.grad = p.grad.copy()
        make({name: copy}).step(1.0)
        moved = np.sqrt(np.mean((copy.data - p.data) ** 2))
        if moved:
            rates[name] = float(wanted * np.sqrt(np.mean(p.data ** 2)) / moved)
    return rates
