"""Day 52 · Exercises to build; `python -m days check 52` grades them."""

import numpy as np

from llm.weights.blocks import dequantise


def to_q8_0(w):
    """Write weights as Q8_0: w (rows, K) float32, K a multiple of 32 -> (rows, bytes) uint8.

    Of each block of 32: a 16-bit scale d = (largest magnitude) / 127, then 32 signed bytes
    q = round(w / d). Divide by the scale as it is stored, after its own rounding, and clip to
    −127 … 127. A block of zeros has d = 0. Raises ValueError, with the shape, on any other K.
    Example: dequantise(to_q8_0(w), "Q8_0") is w up to half a step.
    """
    raise NotImplementedError


def q2_k(blocks):
    """Dequantise Q2_K: blocks (n, 84) uint8 -> (n, 256) float32, in 16 groups of 16 weights.

    Bytes 0–15: for group g the scale (low nibble) and the minimum (high nibble). Bytes 16–79: two
    bits a weight. Bytes 80–81 and 82–83: d and d_min as 16-bit floats.
    w = d · scale · q − d_min · minimum. Of each half of 128 weights, 32 bytes hold four runs of 32:
    run j is bits 2j and 2j + 1. Each run is two groups.
    """
    raise NotImplementedError


def check_to_q8_0(f):
    """Half a step, exact numbers, zeros, and an error that names the shape."""
    rng = np.random.default_rng(0)
    w = (rng.normal(size=(5, 96)) * rng.uniform(0.01, 3, size=(5, 1))).astype(np.float32)
    raw = f(w)
    assert raw.shape == (5, 3 * 34) and raw.dtype == np.uint8, "34 bytes for 32 weights"
    step = np.abs(w.reshape(5, 3, 32)).max(axis=2, keepdims=True) / 127
    off = np.abs(dequantise(raw, "Q8_0") - w).reshape(5, 3, 32)
    assert (off <= 0.51 * step + 1e-6).all(), "a weight is off by more than half a step"
    exact = np.arange(-127, 128, 8, dtype=np.float32).reshape(1, 32) * np.float32(0.25)
    assert (dequantise(f(exact), "Q8_0") == exact).all(), "multiples of d must come back exactly"
    zeros = np.zeros((2, 32), dtype=np.float32)
    assert (dequantise(f(zeros), "Q8_0") == 0).all(), "a block of zeros"
    try:
        f(np.ones((2, 40), dtype=np.float32))
        raise AssertionError("40 weights are no whole blocks: raise ValueError")
    except ValueError as error:
        assert "(2, 40)" in str(error), "say the shape"


def check_q2_k(f):
    """Weight by weight, in Python numbers."""
    rng = np.random.default_rng(1)
    blocks = rng.integers(256, size=(3, 84), dtype=np.uint8)
    halves = rng.normal(size=(3, 2)).astype(np.float16)
    blocks[:, 80:] = halves.view(np.uint8)
    found = f(blocks)
    assert found.shape == (3, 256) and found.dtype == np.float32, "(n, 256) float32"
    for n, block in enumerate(blocks.tolist()):
        d, least = (float(x) for x in halves[n])
        for i in range(256):
            half, run, at = i // 128, i % 128 // 32, i % 32
            q = block[16 + 32 * half + at] >> 2 * run & 3
            pair = block[i // 16]
            wanted = d * (pair & 15) * q - least * (pair >> 4)
            assert abs(found[n, i] - wanted) < 1e-4, f"weight {i}: {found[n, i]}, not {wanted}"


EXERCISES = {to_q8_0: check_to_q8_0, q2_k: check_q2_k}
