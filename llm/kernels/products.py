"""Day 52 · A vector, or many, against tiles of blocks: in 8-bit activations, or plain in floats.

Three paths lead to the same product (kernels/cpu.py says which the processor can take):
vnni and avx2 round activations to 8 bits, 32 to a scale (`prepare8`) and use kernels/lanes.py;
plain keeps them in float32 and is nothing but Numba, for any processor, or where 8 bits are too
few. It is slower, since each weight is widened to a float before it is multiplied.
Many vectors at once share the weights that a register holds: that is what prefill wants. Left out:
the instructions themselves (lanes.py).
"""

import numpy as np
from numba import njit, prange

from llm.kernels.activations import prepare8, prepare_sums
from llm.kernels.floats import COLUMNS, LANES, ROWS, tile
from llm.kernels.lanes import product
from llm.kernels.matvec import R

TWO_112 = np.float32(2.0 ** 112)
WIDTHS = {"vnni": 16, "avx2": 8}                                      # outputs in a register
SHARE = {"vnni": (6, 2), "avx2": (4, 2)}     # (vectors, groups of outputs) that share registers


@njit(inline="always")
def widen(h):
    """The float16 with bits h, finite, as float32: its exponent moved up by 2¹¹²."""
    h = np.uint32(h)
    bits = np.uint32((h & np.uint32(0x8000)) << np.uint32(16) | (h & np.uint32(0x7FFF))
                     << np.uint32(13))
    return bits.view(np.float32) * TWO_112


@njit(error_model="numpy", cache=True)
def one_output(data, bits, minima, n, out):
    """out (K,) ← the weights of output n, exactly as the block says: an embedding's row."""
    nb, r = out.shape[0] // 32, n % R
    head = 2 * R * (2 if minima else 1)
    step, offset = head + 4 * R * bits, 0 if minima else 1 << (bits - 1)
    for b in range(nb):
        at = (n // R * nb + b) * step
        heads, words = data[at:at + head].view(np.uint16), data[at + head:at + step].view(np.uint32)
        scale, least = widen(heads[r]), widen(heads[R + r]) if minima else np.float32(0)
        for k in range(32):
            shift = 8 * (k % 4) + (4 if k >= 4 * bits else 0)
            q = (np.int64(words[R * (k // 4 % bits) + r]) >> shift) & ((1 << bits) - 1)
            out[32 * b + k] = scale * np.float32(q - offset) + least


def compiled(path, layout):
    """(rows, products) of a path in registers and a layout; products(data, x, works, y) is `rows`
    for x (n, K) and y (n, 64·tiles), on all threads; works: uint8 (n, …), scratch.

    Only numbers are captured, so that Numba finds the compiled function in its cache again.
    """
    lanes, (tokens, groups) = WIDTHS[path], SHARE[path]
    everything, width = R // lanes, lanes * groups
    bits, minima, step = layout.bits, int(layout.minima), layout.step

    @njit(error_model="numpy", cache=True)
    def rows(data, x, work, y, K, first, last):
        nb = K // 32
        for i in range(first, last):
            product(data.ctypes.data + i * nb * step, work.ctypes.data, 0,
                    y.ctypes.data + 4 * R * i, 0, nb, 0, everything, 1, lanes, bits, minima)

    @njit(error_model="numpy", parallel=True, cache=True)
    def products(data, x, works, y):
        (n, K), wide, stride = x.shape, 4 * y.shape[1], works.shape[1]
        nb, parts = K // 32, R // width
        for i in prange(n):
            prepare8(x[i], works[i])
        for part in prange(y.shape[1] // width):                # `width` outputs of all vectors
            row, to = part % parts * width, y.ctypes.data + 4 * width * part
            at = data.ctypes.data + part // parts * nb * step
            if n < tokens:
                for i in range(n):
                    product(at, works.ctypes.data + i * stride, stride, to + i * wide, wide, nb,
                            row, groups, 1, lanes, bits, minima)
            for start in range(0, n if n >= tokens else 0, tokens):
                i = min(start, n - tokens)                      # the last ones overlap
                product(at, works.ctypes.data + i * stride, stride, to + i * wide, wide, nb, row,
                        groups, tokens, lanes, bits, minima)
    return rows, products


def compiled_plain(layout):
    """(rows, products) in floats: y = Σ scale · (Σ q·x − offset · Σx) + minimum · Σx by blocks.

    A word holds four weights of an output, or eight; sixteen neighbouring outputs grow together.
    For many vectors COLUMNS outputs are widened to float32 once, and stay in the second cache.
    """
    bits, minima, step, head = layout.bits, layout.minima, layout.step, layout.head
    offset, mask = np.float32(layout.offset), np.uint32(15 if bits == 4 else 255)

    @njit(fastmath=True, error_model="numpy", cache=True)
    def rows(data, x, work, y, K, first, last):
        nb = K // 32
        sums = work[:4 * nb].view(np.float32)
        for i in range(first, last):
            out = y[R * i:R * i + R]
            out[:] = np.float32(0)
            for b in range(nb):
                at = (i * nb + b) * step
                heads = data[at:at + head].view(np.uint16)
                words, part = data[at + head:at + step].view(np.uint32), x[32 * b:32 * b + 32]
                for r in range(R):
                    total = np.float32(0)
                    for g in range(bits):
                        word = words[R * g + r]
                        for j in range(4):
                            q = (word >> np.uint32(8 * j)) & mask
                            total += np.float32(np.int32(q)) * part[4 * g + j]
                            if bits == 4:
                                q = (word >> np.uint32(8 * j + 4)) & mask
                                total += np.float32(np.int32(q)) * part[16 + 4 * g + j]
                    if minima:
                        out[r] += widen(heads[r]) * total + widen(heads[R + r]) * sums[b]
                    else:
                        out[r] += widen(heads[r]) * (total - offset * sums[b])

    @njit(fastmath=True, error_model="numpy")
    def widened(data, part, out):
        nb, i, c = out.shape[0] // 32, part * COLUMNS // R, part * COLUMNS % R
        for b in range(nb):
            at = (i * nb + b) * step
            heads = data[at:at + head].view(np.uint16)[c:]
            words = data[at + head:at + step].view(np.uint32)[c:]
            for k in range(32):
                g, shift = k // 4 % bits, np.uint32(8 * (k % 4) + (4 if k >= 4 * bits else 0))
                for r in range(COLUMNS):
                    q = np.float32(np.int32((words[R * g + r] >> shift) & mask))
                    least = widen(heads[R + r]) if minima else -offset * widen(heads[r])
                    out[32 * b + k, r] = widen(heads[r]) * q + least

    @njit(error_model="numpy", parallel=True, cache=True)
    def products(data, x, works, y):
        n, K = x.shape
        if n < ROWS:
            for i in prange(n):
                prepare_sums(x[i], works[i])
            for part in prange(y.shape[1] // R):
                for i in range(n):
                    rows(data, x[i], works[i], y[i], K, part, part + 1)
            return
        for part in prange(y.shape[1] // COLUMNS):
            w = np.empty((K, COLUMNS), np.float32)
            widened(data, part, w)
            for start in range(0, n, ROWS):
                i = min(start, n - ROWS)                        # the last ones overlap
                tile(x[i].ctypes.data, 4 * K, 4, w.ctypes.data, 4 * COLUMNS,
                     y[i].ctypes.data + 4 * COLUMNS * part, 4 * y.shape[1], K, ROWS, COLUMNS,
                     LANES)
    return rows, products
