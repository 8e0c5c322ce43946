"""Day 52 · The formats of real weights: GGUF's blocks in tiles, on whatever the processor has.

    format  bits stored, with scales      a weight              serves exactly
    Q4_1    5      4-bit q, minima        scale · q + minimum   Q4_1
    Q4_0    4.5    4-bit q                scale · (q − 8)       Q4_0
    Q5_1    9      5-bit q in a byte      scale · q + minimum   Q5_1
    Q8_0    8.5    8-bit q                scale · (q − 128)     Q8_0, and Q5_0 (its q moved by 112)

Blocks are 32 weights. What no format serves exactly is rounded once more, by llm/weights/repack.py.
Decoding reads every weight once a token, so bits are time: five bits a byte costs Q5 files that.
`formats()` gives these for the best path of this processor; "plain" is the one with float32
activations. Left out: a path of its own for ARM, and AVX-VNNI without AVX-512.
Source: ggml's `block_q4_0` … `block_q8_0` (ggml-common.h).
"""

from functools import cache, partial

import numpy as np

from llm.kernels.activations import WORK, prepare8, prepare_sums
from llm.kernels.blocks import BLOCK, Layout, dense, quantise, tile_blocks
from llm.kernels.cpu import choose
from llm.kernels.matvec import Format, R, tiles
from llm.kernels.products import compiled, compiled_plain

LAYOUTS = {"Q4_1": Layout(4, True), "Q4_0": Layout(4, False),
           "Q5_1": Layout(8, True), "Q8_0": Layout(8, False)}


def pack(layout, w):
    """float32 (K, N), as `Linear` stores it -> data; rounded to nearest, block by block."""
    w = np.asarray(w, np.float32)
    if w.ndim != 2 or w.size == 0:
        raise ValueError(f"a matrix of shape {w.shape} cannot be packed: wanted (inputs, outputs)")
    return tile_blocks(layout, *quantise(layout, w.T))


def matmul(products, data, x, N):
    """x (n, K) -> x Wᵀ (n, N), by the compiled products of a path."""
    x = np.ascontiguousarray(x, np.float32)
    works = np.empty((len(x), x.shape[1] // BLOCK * WORK), np.uint8)
    y = np.empty((len(x), R * tiles(N)), np.float32)
    products(data, x, works, y)
    return y[:, :N]


@cache
def make(name, path):
    """The Format of LAYOUTS[name] on one path."""
    layout = LAYOUTS[name]
    if path == "plain":
        (rows, products), prepare = compiled_plain(layout), prepare_sums
    else:
        (rows, products), prepare = compiled(path, layout), prepare8
    return Format(f"{name} ({path})", 8 * layout.step / (R * BLOCK), partial(pack, layout),
                  prepare, rows, partial(matmul, products), partial(dense, layout))


def formats(path=None):
    """{name: Format} on a path: "vnni", "avx2" or "plain"; None: the fastest of this processor.

    Raises ValueError if the processor cannot take the path.
    """
    path = choose(path)
    return {name: make(name, path) for name in LAYOUTS}
