"""Day 47 · One step for many requests: a row is a token, wherever it stands in whichever text.

The next tokens of ten texts and a piece of a prompt are the same to the matrices, which are read
once for all rows. Only attention asks a row where it stands and whose keys it may see. All of
day 42's architectures. Left out: beams, and rows on several machines.
"""

import numpy as np

from llm.functions.dense import gelu, silu
from llm.generate.decode import attend, check_ids, norm, split
from llm.generate.layout import move_together, pack
from llm.generate.rotate import turn
from llm.kernels.matvec import Packed
from llm.kernels.paged import ROWS32


def gathered(q, k, v, tables, positions):
    """Attention, row by row: the blocks of a row are copied together, then it is day 42's.

    q (H, N, D); k, v (blocks, K, size, D); tables (N, M); positions (N,) -> (N, H·D).
    """
    rows = []
    for j, position in enumerate(positions):
        blocks = tables[j, :position // k.shape[2] + 1]
        keys, values = (part[blocks].swapaxes(0, 1).reshape(k.shape[1], -1, k.shape[3])
                        [:, :position + 1] for part in (k, v))             # (K, position + 1, D)
        rows.append(attend(q[:, j:j + 1], keys, values, position)[0])
    return np.stack(rows)


def paged_decode(arch, weights, ids, positions, tables, pool, wanted=None, attention=gathered):
    """Read N tokens, each at its place in its text -> logits (len(wanted), V), all rows if None.

    ids, positions (N,): row j is token ids[j] at positions[j]. tables (N, M): the blocks of its
    text; those up to positions[j] must be there, and what comes before in them must have been read
    or be a row of this call too. Two rows at one place are the caller's mistake. weights: arrays,
    or from `pack_rows`; attention: `gathered`, or its twin llm.kernels.paged.attend for float32.
    FLOPs: 2 a weight and row, 4·L·H·D a row and key. Bytes: the weights once, every row's keys.
    Raises ValueError, with the pool as it was, on wrong ids or shapes and on too small a table.
    """
    ids, positions, tables = check_rows(arch, ids, positions, tables, pool)
    blocks = tables[np.arange(len(ids)), positions // pool.size]
    x = np.asarray(weights["embed"][ids])                                  # (N, C)
    if arch.rotary is None:
        x = x + weights["positions"][positions]
    for i in range(arch.L):
        block = f"blocks.{i}."
        y = norm(arch, weights, block + "norm1", x)
        q, k, v = split(arch, apply(weights, block + "qkv", y))
        if arch.rotary is not None:
            q, k = turn(q, positions, arch.rotary), turn(k, positions, arch.rotary)
        pool.write(i, blocks, positions % pool.size, k, v)
        heads = attention(q, pool.k[i], pool.v[i], tables, positions)      # (N, H·D)
        x = x + apply(weights, block + "project", heads)
        y = norm(arch, weights, block + "norm2", x)
        up = apply(weights, block + "up", y)                               # (N, F)
        inside = silu(apply(weights, block + "gate", y)) * up if arch.feed_forward == "swiglu" \
            else gelu(up)
        x = x + apply(weights, block + "down", inside)
    x = norm(arch, weights, "norm", x if wanted is None else x[wanted])
    return product(weights["head"] if "head" in weights else weights["embed"].T, x)


def product(w, x):
    """x (N, Cin) by w -> (N, Cout), each row as if it were alone.

    A packed matrix is read once for all rows, if its format can. An array is read once for each
    row: BLAS gets one row at a time, since with more it may add in another order.
    """
    if not len(x):
        return np.zeros((0, w.shape[1]), x.dtype)
    if isinstance(w, Packed):
        return w.format.matmul(w.data, x, w.N)
    out = np.empty((len(x), w.shape[1]), np.result_type(x, w))
    for row, y in zip(x, out):
        np.matmul(row, w, out=y)
    return out


def apply(weights, name, x):
    """The linear layer `name`, with its bias where there is one: (N, Cin) -> (N, Cout)."""
    y = product(weights[name + ".w"], x)
    return y + weights[name + ".b"] if name + ".b" in weights else y


def pack_rows(weights, format=ROWS32):
    """Weights for many rows at once: matrices packed, once, the head among them -> a new dict."""
    formats = {"*": format}
    packed = {name: pack(name, array, formats) for name, array in weights.items()}
    if "head" not in weights:
        packed["head"] = pack("head", weights["embed"].T, formats)
    move_together(packed)
    return packed


def check_rows(arch, ids, positions, tables, pool):
    """ids and positions (N,), tables (N, M), as arrays of integers; else ValueError."""
    ids = check_ids(arch, ids)
    positions, tables = np.asarray(positions), np.asarray(tables)
    if positions.shape != ids.shape or tables.ndim != 2 or len(tables) != len(ids):
        raise ValueError(f"ids {ids.shape}, positions {positions.shape} and tables "
                         f"{tables.shape} do not belong together: wanted (N,), (N,) and (N, M)")
    last = int(positions.max())
    if positions.min() < 0 or last >= min(arch.T, tables.shape[1] * pool.size):
        raise ValueError(f"positions {positions.min()} … {last}: the tables have room for "
                         f"{tables.shape[1] * pool.size} tokens and the model for {arch.T}")
    return ids, positions, tables
