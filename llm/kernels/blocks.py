"""Day 52 · Blocks in tiles: weights of 4 or 8 bits, laid out so that outputs lie in the lanes.

A block is 32 weights of one output, each w = scale · q + minimum with q of 4 or 8 bits. Many
formats have no minima, w = scale · (q − 8) or scale · (q − 128). A tile of 64 outputs is stored
block by block, and one block of the tile is

    scales    64 float16                         minima    64 float16, if the format has any
    words     (g, 64) words of four bytes, g = 4 (4 bits) or 8 (8 bits)

Word (g, n) belongs to output n. With 8 bits it holds inputs 4 g … 4 g + 3. With 4 bits it holds
inputs 4 g … 4 g + 3 in the low halves of its bytes and 16 + 4 g … in the high halves: that is
GGUF's own order in a block, so that repacking a file moves words and computes nothing.
All of a tile is read once, from front to back: 1,280 bytes a block for Q4_1, 5 bits a weight.
Left out: blocks of another length than 32; see kernels/llama.py for what becomes of them.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from llm.kernels.matvec import R, aligned, tiles

BLOCK = 32                                  # weights that share a scale


@dataclass(frozen=True)
class Layout:
    """bits: 4 or 8. minima: whether blocks have them; else q counts from 8 or 128."""

    bits: int
    minima: bool

    @property
    def offset(self):
        """What stands for 0 where there are no minima."""
        return 0 if self.minima else 1 << self.bits - 1

    @property
    def top(self):
        """The largest q: 31 in a byte with minima, whose products of two must fit 16 bits."""
        return 15 if self.bits == 4 else 31 if self.minima else 255

    @property
    def head(self):
        """Bytes of scales and minima in front of a block's words."""
        return 2 * R * (2 if self.minima else 1)

    @property
    def step(self):
        """Bytes from one block of a tile to the next."""
        return self.head + R * BLOCK * self.bits // 8


@njit(parallel=True, cache=True)
def spread(words, heads, data, step, head):
    """words (N, nb, g) uint32 and heads (N, nb, 1 or 2) uint16 of all outputs -> data (tiles)."""
    N, nb, groups = words.shape
    for tile in prange((N + 63) // 64):
        out32, out16 = data.view(np.uint32), data.view(np.uint16)
        for b in range(nb):
            start = (tile * nb + b) * step
            for i in range(min(64, N - 64 * tile)):
                n = 64 * tile + i
                for part in range(heads.shape[2]):
                    out16[start // 2 + 64 * part + i] = heads[n, b, part]
                for g in range(groups):
                    out32[(start + head) // 4 + 64 * g + i] = words[n, b, g]


def tile_blocks(layout, words, heads):
    """Blocks by output -> `data`: the bytes of all tiles; outputs past N have scale 0.

    words (N, nb, g) uint32, heads (N, nb, 1 or 2) float16: a scale, and a minimum if any.
    """
    N, nb, groups = words.shape
    parts = 2 if layout.minima else 1
    if groups != layout.bits or heads.shape != (N, nb, parts):
        raise ValueError(f"words {words.shape} and scales {heads.shape} do not belong to blocks "
                         f"of {layout.bits} bits: wanted (N, nb, {layout.bits}) and "
                         f"(N, nb, {parts})")
    data = aligned(tiles(N) * nb * layout.step)
    spread(words, np.ascontiguousarray(heads).view(np.uint16), data, layout.step, layout.head)
    return data


def quantise(layout, w):
    """w (N, K) float32 -> words, heads: each block rounded to nearest between its own ends.

    With minima, scale = (max − min) / top; without, the number of largest size becomes q = 0
    (4 bits, as in Q4_0) or the block is symmetric (8 bits, as in Q8_0). q is computed with the
    rounded float16 scale, so that the scale's rounding is no error of its own.
    Raises ValueError if K is not a multiple of 32, or a scale does not fit float16.
    """
    N, K = w.shape
    if K % BLOCK:
        raise ValueError(f"{K} inputs do not make blocks of {BLOCK}: pad them, or keep float32")
    b = np.asarray(w, np.float32).reshape(N, -1, BLOCK)
    if layout.minima:
        low = b.min(axis=2)
        heads = [(b.max(axis=2) - low) / layout.top, low]
    elif layout.bits == 8:
        heads = [np.abs(b).max(axis=2) / 127]
    else:
        peak = np.take_along_axis(b, np.abs(b).argmax(axis=2)[..., None], axis=2)[..., 0]
        heads = [peak / -8]
    with np.errstate(over="ignore"):
        heads = np.stack(heads, axis=2).astype(np.float16)
    if not np.isfinite(heads).all():
        raise ValueError("a block's scale does not fit float16: these weights are too large, or "
                         "not finite; keep this matrix in float32")
    wide = heads.astype(np.float32)
    scale = wide[..., :1]
    q = (b - wide[..., 1:]) if layout.minima else b
    q = np.divide(q, scale, out=np.zeros_like(b), where=scale != 0)
    q = np.clip(np.rint(q) + layout.offset, 0, layout.top).astype(np.uint8)
    if layout.bits == 4:
        q = q[..., :16] | q[..., 16:] << 4
    return np.ascontiguousarray(q).view(np.uint32), heads


def unpack(layout, data, N, K):
    """What `data` holds: q (N, nb, 32) float32 with its offset taken off, scales, minima."""
    nb = K // BLOCK
    blocks = data.reshape(tiles(N), nb, layout.step)
    heads = np.ascontiguousarray(blocks[..., :layout.head]).view(np.float16)
    heads = heads.reshape(tiles(N), nb, -1, R).transpose(0, 3, 1, 2).reshape(-1, nb, layout.head
                                                                             // (2 * R))[:N]
    q = blocks[..., layout.head:].reshape(tiles(N), nb, layout.bits, R, 4)
    q = q.transpose(0, 3, 1, 2, 4).reshape(-1, nb, 4 * layout.bits)[:N]
    if layout.bits == 4:
        q = np.concatenate([q & 15, q >> 4], axis=2)
    heads = heads.astype(np.float32)
    return q.astype(np.float32) - layout.offset, heads[..., 0], (heads[..., 1] if layout.minima
                                                                 else 0 * heads[..., 0])


def dense(layout, data, N, K):
    """float32 (K, N): the matrix that the kernels multiply by."""
    q, scale, minimum = unpack(layout, data, N, K)
    return np.ascontiguousarray((q * scale[..., None] + minimum[..., None]).reshape(N, K).T)
