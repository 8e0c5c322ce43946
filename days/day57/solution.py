"""Day 57 · Solutions of the exercises."""

import numpy as np

from llm.functions.logps import IGNORE


def clipped_value():
    """The larger error counts; where it is the held value's, the value has no slope."""
    def f(values, old, returns, targets, clip=0.2):
        counted = targets != IGNORE
        count = max(int(counted.sum()), 1)
        error = values - returns
        held = old + np.clip(values - old, -clip, clip) - returns
        slope = np.where(counted & (error ** 2 >= held ** 2), error / count, 0)
        inside = np.abs(values - old) < clip                 # there the held value moves as well
        slope = np.where(counted & inside, error / count, slope).astype(values.dtype)
        larger = np.maximum(error ** 2, held ** 2)[counted].sum(dtype=np.float64)
        return np.asarray(larger / (2 * count), values.dtype), (slope,)

    def f_vjp(dloss, slope):
        return dloss * slope, None, None, None

    return f, f_vjp


def leave_one_out(scores):
    """s − (Σ − s)/(A − 1) = (A·s − Σ)/(A − 1)."""
    A = scores.shape[1]
    if A < 2:
        raise ValueError(f"scores {scores.shape}: wanted at least 2 answers to each prompt")
    return (A * scores - scores.sum(axis=1, keepdims=True)) / (A - 1)
