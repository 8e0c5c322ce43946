"""Day 54 · The twin of tune/nf4.expand: 4-bit codes become float32 weights, block by block.

Left out: making the codes, and reading the scales, which are few: NumPy does both.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.threads import share

BLOCK = 64


@njit(parallel=True, error_model="numpy", cache=True)
def expand_blocks(codes, scales, table, out):
    """out (n,) ← table[code] · scale; codes (n/2,) uint8, scales (n/64,)."""
    for i in prange(scales.size):
        scale = scales[i]
        for j in range(i * (BLOCK // 2), (i + 1) * (BLOCK // 2)):
            byte = codes[j]
            out[2 * j] = table[byte & 15] * scale
            out[2 * j + 1] = table[byte >> 4] * scale


def expand(codes, scales, table):
    """codes (n/2,) uint8, scales (n/64,), table (16,) float32 -> float32 (n,)."""
    out = np.empty(2 * len(codes), np.float32)
    share(out.size)
    expand_blocks(codes, scales, table, out)
    return out
