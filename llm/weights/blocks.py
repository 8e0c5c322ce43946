"""Day 52 · How a GGUF file writes numbers: floats, and blocks of small integers with a scale.

A quantised row is cut into blocks of 32 weights (256 for the K-quants, `kquants.py`), each with
its own scale and sometimes a minimum. `dequantise` turns bytes back into float32, exactly: every
product below is one that float32 rounds at most once per operation, in the order ggml uses.
Left out: quantising (days 44, 45), and multiplying without dequantising (kernels/llama.py).
Source: ggml's `block_q4_0` … `block_q8_0` (ggml-common.h) and `dequantize_row_…` (ggml-quants.c).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llm.weights.kquants import half, q4_k, q5_k, q6_k


@dataclass(frozen=True)
class BlockType:
    """One way to write numbers: `bytes` bytes hold `weights` weights; unpack (n, bytes) uint8 ->
    (n, weights) float32. `number` is the type's id in a file."""

    name: str
    number: int
    weights: int
    bytes: int
    unpack: Callable

    @property
    def bits(self):
        """Bits a weight, scales included."""
        return 8 * self.bytes / self.weights


def f32(blocks):
    """4 bytes: the number itself."""
    return blocks.copy().view(np.float32)


def f16(blocks):
    """2 bytes: a float16, widened."""
    return half(blocks, 0)


def bf16(blocks):
    """2 bytes: the upper half of a float32, shifted back up."""
    return (blocks.copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def nibbles(packed):
    """packed (n, 16) uint8 -> (n, 32) uint8: byte j holds weight j (low) and j + 16 (high)."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def fifth_bits(packed):
    """packed (n, 4) uint8 -> (n, 32) uint8, 0 or 16: bit j is the fifth bit of weight j."""
    return np.unpackbits(packed, axis=1, bitorder="little") << 4


def q4_0(blocks):
    """18 bytes: scale d, 16 bytes of nibbles. w = d·(q − 8)."""
    return half(blocks, 0) * (nibbles(blocks[:, 2:18]).astype(np.int8) - np.int8(8))


def q4_1(blocks):
    """20 bytes: scale d, minimum m, 16 bytes of nibbles. w = d·q + m."""
    return half(blocks, 0) * nibbles(blocks[:, 4:20]) + half(blocks, 2)


def q5_0(blocks):
    """22 bytes: scale d, 4 bytes of fifth bits, 16 bytes of nibbles. w = d·(q − 16)."""
    q = nibbles(blocks[:, 6:22]) | fifth_bits(blocks[:, 2:6])
    return half(blocks, 0) * (q.astype(np.int8) - np.int8(16))


def q5_1(blocks):
    """24 bytes: scale d, minimum m, 4 bytes of fifth bits, 16 bytes of nibbles. w = d·q + m."""
    q = nibbles(blocks[:, 8:24]) | fifth_bits(blocks[:, 4:8])
    return half(blocks, 0) * q + half(blocks, 2)


def q8_0(blocks):
    """34 bytes: scale d, 32 signed bytes. w = d·q."""
    return half(blocks, 0) * blocks[:, 2:34].view(np.int8)


TYPES = {kind.number: kind for kind in (
    BlockType("F32", 0, 1, 4, f32),
    BlockType("F16", 1, 1, 2, f16),
    BlockType("Q4_0", 2, 32, 18, q4_0),
    BlockType("Q4_1", 3, 32, 20, q4_1),
    BlockType("Q5_0", 6, 32, 22, q5_0),
    BlockType("Q5_1", 7, 32, 24, q5_1),
    BlockType("Q8_0", 8, 32, 34, q8_0),
    BlockType("Q4_K", 12, 256, 144, q4_k),
    BlockType("Q5_K", 13, 256, 176, q5_k),
    BlockType("Q6_K", 14, 256, 210, q6_k),
    BlockType("BF16", 30, 1, 2, bf16),
)}
NAMES = {kind.name: kind for kind in TYPES.values()}
ROWS_AT_ONCE = 1 << 22        # weights dequantised together, so that scratch stays near 50 MB


def dequantise(raw, kind):
    """Bytes of whole rows -> weights: raw (rows, bytes of a row) uint8 -> (rows, K) float32.

    kind: a BlockType or its name. Raises ValueError if a row is not a whole number of blocks.
    """
    kind = NAMES[kind] if isinstance(kind, str) else kind
    rows, width = raw.shape
    if width % kind.bytes:
        raise ValueError(f"rows of {width} bytes, shape {raw.shape}, are not whole {kind.name} "
                         f"blocks of {kind.bytes} bytes; cut the array at block borders")
    K = width // kind.bytes * kind.weights
    out = np.empty((rows, K), dtype=np.float32)
    step = max(1, ROWS_AT_ONCE // max(K, 1))
    with np.errstate(over="ignore", invalid="ignore"):      # a damaged scale is the caller's news
        for first in range(0, rows, step):
            part = raw[first:first + step]
            out[first:first + step] = kind.unpack(part.reshape(-1, kind.bytes)).reshape(-1, K)
    return out
