"""Day 30 · Solutions."""

import numpy as np


def shift_matrix(channels, shift):
    m = np.zeros((channels, channels))
    for i in range(0, channels, 2):
        angle = shift * 10000.0 ** (-i / channels)
        m[i:i + 2, i:i + 2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return m


def buckets(T, n, most):
    distance = np.maximum(np.arange(T)[:, None] - np.arange(T), 0)
    half = n // 2
    far = np.log(np.maximum(distance, 1) / half) / np.log(most / half) * half
    return np.where(distance < half, distance, np.minimum(half + np.floor(far), n - 1)).astype(int)
