"""Day 31 · Solutions."""

import numpy as np

from llm.layers.rotary import angles, interleaved_to_half


def convert(w, H):
    C = w.shape[0]
    D = C // H
    order = np.concatenate([h * D + interleaved_to_half(D) for h in range(H)])      # (C,)
    return w[:, np.concatenate([order, C + order, 2 * C + np.arange(C)])]


def angles_by_parts(T, D, trained, base=10000.0):
    angle = angles(T, D, base)
    slow = angles(2, D, base)[1] * trained < 2 * np.pi
    return np.where(slow, angle * min(1.0, trained / T), angle)
