"""Day 52 · Repacking: a file's blocks into the tiles that the kernels read, once, at load.

Most of it moves bytes. Where no format of llm/kernels/llama.py can hold a block as it is, the
weights are rounded once more, and `CHOICE` says how:

    Q4_0 Q4_1 Q5_0 Q5_1 Q8_0   exactly
    Q4_K Q5_K                  as Q4_1 and Q5_1: two factors of a scale become one float16, which
                               moves a weight by up to 1/2048 of its scaled q and of its minimum
    Q6_K                       to Q8_0, by at most 1/254 of the block's largest weight
    F32 F16 BF16               stay float32, exactly

Matrices that the engine joins (queries, keys, values) but the file writes in different types all
go to Q8_0 too. Left out: formats of 5 and 6 bits that take no more room than that.
"""

import numpy as np

from llm.kernels.blocks import quantise, tile_blocks
from llm.kernels.llama import LAYOUTS, formats
from llm.kernels.matvec import FLOAT32, Packed
from llm.weights.blocks import NAMES, dequantise, fifth_bits, nibbles
from llm.weights.kquants import half, six_bit, two_nibbles

CHOICE = {"Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q8_0", "Q5_1": "Q5_1", "Q8_0": "Q8_0",
          "Q4_K": "Q4_1", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
          "F32": "float32", "F16": "float32", "BF16": "float32"}

UNCHANGED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")       # blocks that keep every weight


def repack(parts, path=None):
    """Matrices whose outputs follow one another, as one -> Packed with its format.

    parts: [(type, raw (N, bytes of a row) uint8), …], type a name as in GGUF or anything with
    such a `name`; every row holds K weights. path: see llm/kernels/cpu.py; None: the fastest.
    Raises ValueError for rows of different length, for scales that are not finite, and for a
    type that is not in CHOICE.
    """
    parts = [(getattr(kind, "name", kind), raw) for kind, raw in parts]
    for kind, _ in parts:
        if kind not in CHOICE:
            raise ValueError(f"blocks of type {kind} are not multiplied here: use one of "
                             f"{', '.join(CHOICE)}")
    lengths = {raw.shape[1] // NAMES[kind].bytes * NAMES[kind].weights for kind, raw in parts}
    if len(lengths) > 1:
        raise ValueError(f"rows of {sorted(lengths)} weights cannot be one matrix")
    K, N = lengths.pop(), sum(len(raw) for _, raw in parts)
    kinds = {CHOICE[kind] for kind, _ in parts}
    chosen = kinds.pop() if len(kinds) == 1 else "Q8_0"
    if chosen == "float32":
        w = np.concatenate([dequantise(raw, kind) for kind, raw in parts])
        return Packed(FLOAT32.pack(w.T), N, K, FLOAT32)
    found = [blocks(kind, raw) if kind in EXACT and CHOICE[kind] == chosen
             else quantise(LAYOUTS[chosen], dequantise(raw, kind)) for kind, raw in parts]
    words, heads = (np.concatenate(arrays) for arrays in zip(*found))
    if not np.isfinite(heads).all():
        raise ValueError(f"a matrix of {N} × {K} weights has scales that are not finite numbers: "
                         "the file is damaged, fetch it again")
    return Packed(tile_blocks(LAYOUTS[chosen], words, heads), N, K, formats(path)[chosen])


def blocks(kind, raw):
    """Rows of blocks as a file writes them -> words (N, nb, g) uint32, heads (N, nb, 1 or 2).

    nb counts blocks of 32 weights; see llm/kernels/blocks.py for the two arrays.
    """
    N, flat = len(raw), np.ascontiguousarray(raw).reshape(-1, NAMES[kind].bytes)
    q, heads = EXACT[kind](flat)
    return (np.ascontiguousarray(q).view(np.uint32).reshape(N, -1, LAYOUTS[CHOICE[kind]].bits),
            np.ascontiguousarray(heads).reshape(N, -1, heads.shape[-1]))


def scales(flat, count):
    """The float16 numbers that a block begins with: (n, count)."""
    return np.ascontiguousarray(flat[:, :2 * count]).view(np.float16)


def five(flat, at):
    """Five-bit q of 32 weights, a byte each: four bytes of fifth bits at `at`, then nibbles."""
    return nibbles(flat[:, at + 4:at + 20]) | fifth_bits(flat[:, at:at + 4])


def products(flat):
    """Scales and minima of the eight runs of a K-quant, multiplied out: (n, 8, 2) float16."""
    small, least = six_bit(flat[:, 4:16])
    heads = np.stack([half(flat, 0) * small, -half(flat, 2) * least], axis=-1)
    with np.errstate(over="ignore"):                        # said by `repack`, in one line
        return heads.astype(np.float16)


def q4_k(flat):
    """Blocks of 144 bytes (n, 144) -> bytes of q (n, 8, 16), heads (n, 8, 2): as Q4_1."""
    q = two_nibbles(flat[:, 16:144])                        # (n, 8, 32)
    return q[..., :16] | q[..., 16:] << 4, products(flat)


def q5_k(flat):
    """Blocks of 176 bytes (n, 176) -> bytes of q (n, 8, 32), heads (n, 8, 2): as Q5_1."""
    fifth = flat[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return two_nibbles(flat[:, 48:176]) | fifth << 4, products(flat)


EXACT = {                                                   # -> bytes of q, heads
    "Q4_0": lambda flat: (flat[:, 2:18], scales(flat, 1)),
    "Q4_1": lambda flat: (flat[:, 4:20], scales(flat, 2)),
    "Q5_0": lambda flat: (five(flat, 2) + np.uint8(112), scales(flat, 1)),
    "Q5_1": lambda flat: (five(flat, 4), scales(flat, 2)),
    "Q8_0": lambda flat: (flat[:, 2:34] ^ np.uint8(128), scales(flat, 1)),
    "Q4_K": q4_k,
    "Q5_K": q5_k,
}
