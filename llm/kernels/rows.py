"""Day 52 · Rows of many texts: rotated queries and keys, and where the blocks get them.

The other parts of a step for many texts are there: norms and gates in kernels/prompt.py, paged
attention in kernels/paged.py, products in kernels/products.py. Left out: caches of 16 bits.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.prompt import turn

ONE = np.float32(1)


@njit(error_model="numpy", parallel=True, cache=True)
def place_rows(qkv, positions, blocks, cos, sin, k, v, q):
    """q (H, N, D) ← turned queries; k, v (blocks, K, size, D) ← turned keys, and values.

    qkv (N, ≥ (H + 2K)·D). Row j stands at positions[j] of its text, and its keys and values go to
    place positions[j] mod size of blocks[j]; no two rows go to one place. cos, sin (T, D/2).
    6·D FLOPs a head and 8·(H + 2K)·D bytes a row.
    """
    (H, _, D), K, size = q.shape, k.shape[1], k.shape[2]
    for j in prange(len(positions)):
        t, block = positions[j], blocks[j]
        for h in range(H):
            turn(qkv[j, h * D:h * D + D], cos[t], sin[t], ONE, q[h, j])
        for g in range(K):
            at = (H + g) * D
            turn(qkv[j, at:at + D], cos[t], sin[t], ONE, k[block, g, t % size])
            for d in range(D):
                v[block, g, t % size, d] = qkv[j, at + K * D + d]
