"""Day 49 · Solutions of the exercises."""

import math

import numpy as np

from llm.functions.probability import softmax


def shared_attention(q, k, v):
    """The queries of a group stand below each other, as if they were more tokens."""
    (B, H, T, D), K = q.shape, k.shape[1]
    scores = q.reshape(B, K, H // K * T, D) @ k.swapaxes(2, 3) / math.sqrt(D)
    scores = scores.reshape(B, K, H // K, T, T)
    weights = softmax(np.where(np.tri(T, dtype=bool), scores, -np.inf))
    return (weights.reshape(B, K, H // K * T, T) @ v).reshape(B, H, T, D)


def agree(w, H, to):
    """A pair is a complex number; the best angle is that of Σ conj(own) · first."""
    C, D = len(w), w.shape[1] // (3 * H)
    out = w.copy()
    pairs = out.reshape(C, 3, to, H // to, 2, D // 2)       # the two of a pair on axis 4
    numbers = pairs[:, :2, ..., 0, :] + 1j * pairs[:, :2, ..., 1, :]   # (C, 2, to, G, D/2)
    keys = numbers[:, 1]
    along = (keys.conj() * keys[:, :, :1]).sum(axis=0)      # (to, G, D/2)
    turned = numbers * np.exp(1j * np.angle(along))
    pairs[:, :2, ..., 0, :], pairs[:, :2, ..., 1, :] = turned.real, turned.imag
    return out
