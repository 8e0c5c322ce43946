"""Day 52 · K-quants: blocks of 256 weights whose scales are quantised a second time.

A block of 32 weights pays 16 or 32 bits for its scale and minimum. Here eight (or sixteen) small
blocks share one pair of 16-bit numbers, and each has only a 6-bit (or 8-bit) multiple of them.
A reader (`GGUF.array`) calls these through `blocks.TYPES`. Left out: Q2_K, Q3_K and the IQ types,
and writing any of them.
Source: llama.cpp, pull request 1684, "k-quants", and ggml's `block_q4_K` … `block_q6_K`.
"""

import numpy as np


def half(blocks, at):
    """The 16-bit float at byte `at` of every block: blocks (n, bytes) uint8 -> (n, 1) float32."""
    return blocks[:, at:at + 2].copy().view(np.float16).astype(np.float32)


def six_bit(packed):
    """packed (n, 12) uint8 -> scales, minima (n, 8) uint8 in 0 … 63, one pair for each 32 weights.

    Bytes 0–3 and 4–7 hold, in their low six bits, the first four scales and minima. Their two
    high bits are those of the last four, whose low nibbles share bytes 8–11.
    """
    low, middle, last = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (last & 15) | (low >> 6) << 4], axis=1)
    minima = np.concatenate([middle & 63, (last >> 4) | (middle >> 6) << 4], axis=1)
    return scales, minima


def two_nibbles(packed):
    """packed (n, 128) uint8 -> (n, 8, 32) uint8: 32 bytes hold two runs, low nibbles first."""
    packed = packed.reshape(-1, 4, 1, 32)
    return np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 8, 32)


def affine(blocks, q):
    """w = (d · scale) · q − (d_min · minimum): q (n, 8, 32) -> (n, 256) float32."""
    scales, minima = six_bit(blocks[:, 4:16])
    scale, minimum = half(blocks, 0) * scales, half(blocks, 2) * minima          # (n, 8)
    return (scale[:, :, None] * q - minimum[:, :, None]).reshape(-1, 256)


def q4_k(blocks):
    """144 bytes: d, d_min (16 bits each), 12 bytes of six-bit pairs, 128 bytes of nibbles."""
    return affine(blocks, two_nibbles(blocks[:, 16:144]))


def q5_k(blocks):
    """176 bytes: as Q4_K, with 32 bytes of fifth bits before the nibbles.

    Bit j of byte l belongs to weight l of run j, so one byte serves all eight runs.
    """
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1   # (n, 8, 32)
    return affine(blocks, two_nibbles(blocks[:, 48:176]) | fifth << 4)


def q6_k(blocks):
    """210 bytes: 128 of low nibbles, 64 of high bit pairs, 16 int8 scales, d. w = d·scale·(q − 32).

    Each half of 128 weights is four runs of 32: two low-nibble runs, then two high-nibble runs;
    bits 2j and 2j + 1 of byte l are the top of weight l of run j. A scale serves 16 weights.
    """
    low = blocks[:, 0:128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    shift = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shift & 3                   # (n, 2, 4, 32)
    q = (low | high << 4).reshape(-1, 16, 16).astype(np.int8) - np.int8(32)
    scale = half(blocks, 208) * blocks[:, 192:208].view(np.int8)                   # (n, 16)
    return (scale[:, :, None] * q).reshape(-1, 256)
