"""Day 44 · The layout of INT8: tiles of R outputs, group by group R scales and then the weights.

    data = tile 0, tile 1, …         tile = group 0, group 1, …, the last one perhaps shorter
    group = R scales (float32), then its inputs as w[k, row] (int8), the row innermost

NumPy alone: packing, unpacking, and products of many vectors by BLAS. The compiled product is in
llm/kernels/int8.py. `pack` rounds symmetrically and cuts nothing off; matrices that were rounded
otherwise (llm/quantize) come in by `tile_up`. Left out: zeros other than 0.
"""

import numpy as np

from llm.kernels.matvec import R, aligned, tiles

TOP = 127
MOST = (2**31 - 1) // TOP**2            # 133,144: so many products surely fit in 32 bits
EXACT = 2**24 // TOP**2                 # 1,040: so many are exact in float32
HEAD = 4 * R                            # bytes of a group's scales
TINY = np.finfo(np.float32).tiny        # smaller scales have lost digits


def group_sizes(K, group):
    """The lengths of the groups of K inputs: [K], or `group` each and what is left."""
    size = min(group or K, K)
    return [size] * (K // size) + ([K % size] if K % size else [])


def tile_up(q, scale, group=None):
    """Integers q (K, N) in −127 … 127, int8, and scales (groups, N) -> data, uint8.

    group: inputs a scale; None: all, with scale (1, N). Scales of one number (1, 1) serve all N.
    Raises ValueError where the shapes do not fit, and where K could overflow the sums.
    """
    q, scale = np.asarray(q), np.asarray(scale, np.float32)
    if q.ndim != 2 or q.size == 0 or q.dtype != np.int8:
        raise ValueError(f"integers of shape {q.shape} and type {q.dtype}: wanted int8, "
                         "(inputs, outputs)")
    (K, N), sizes = q.shape, group_sizes(len(q), group)
    if max(sizes) > MOST:
        raise ValueError(f"{max(sizes):,} products of 8-bit numbers can overflow a sum of 32 bits: "
                         f"use groups of at most {MOST:,}")
    if scale.shape not in ((len(sizes), N), (1, 1)):
        raise ValueError(f"scales of shape {scale.shape} for integers {q.shape} in groups of "
                         f"{group}: wanted {(len(sizes), N)}")
    scale = np.broadcast_to(scale, (len(sizes), N))
    data = aligned(tiles(N) * (HEAD * len(sizes) + R * K))
    for tile, out in enumerate(data.reshape(tiles(N), -1)):
        at, k, here = 0, 0, slice(tile * R, min(tile * R + R, N))
        width = here.stop - here.start
        for g, size in enumerate(sizes):
            out[at:at + HEAD].view(np.float32)[:width] = scale[g, here]
            at += HEAD
            out[at:at + R * size].view(np.int8).reshape(size, R)[:, :width] = q[k:k + size, here]
            at, k = at + R * size, k + size
    return data


def untile(data, N, K, group=None):
    """The other way: q (K, N) int8 and scales (groups, N) float32."""
    sizes, parts = group_sizes(K, group), data.reshape(tiles(N), -1)
    q, scale, at = [], [], 0
    for size in sizes:
        scale.append(np.ascontiguousarray(parts[:, at:at + HEAD]).view(np.float32).reshape(-1)[:N])
        at += HEAD
        block = parts[:, at:at + R * size].reshape(-1, size, R).swapaxes(0, 1)
        q.append(block.reshape(size, -1)[:, :N].view(np.int8))
        at += R * size
    return np.concatenate(q), np.stack(scale)


def round_rows(x, size):
    """x (n, K) float32 -> integers (n, K) as float32 and scales (n, groups): what `prepare` does.

    A group of zeros, or of numbers so small that their scale has lost its digits, becomes zeros.
    """
    starts = np.arange(0, x.shape[1], size)
    top = np.maximum.reduceat(np.abs(x), starts, axis=1)
    scale = top / np.float32(TOP)
    scale = np.where(scale < TINY, np.float32(1), scale)
    return np.rint(x / np.repeat(scale, size, axis=1)[:, :x.shape[1]]), scale


def pack(group, w):
    """float32 (K, N), as `Linear` stores it -> data: rounded to nearest, a scale for each output
    and group. Raises ValueError unless w is a matrix of finite numbers."""
    w = np.asarray(w, np.float32)
    if w.ndim != 2 or w.size == 0 or not np.isfinite(w).all():
        raise ValueError(f"a matrix of shape {w.shape} cannot be packed: wanted finite numbers, "
                         "(inputs, outputs)")
    q, scale = round_rows(np.ascontiguousarray(w.T), min(group or len(w), len(w)))
    return tile_up(q.T.astype(np.int8), scale.T, group)


def matmul(group, data, x, N):
    """x (n, K) -> (n, N) by the same integers. BLAS sums up to EXACT products without rounding."""
    K = x.shape[1]
    q, scales = untile(data, N, K, group)
    xq, xs = round_rows(x, min(group or K, K))
    y, start = np.zeros((len(x), N), np.float32), 0
    for g, size in enumerate(group_sizes(K, group)):
        total, end = np.zeros(y.shape, np.int32), start + size
        for k in range(start, end, EXACT):
            here = slice(k, min(k + EXACT, end))
            total += (xq[:, here] @ q[here].astype(np.float32)).astype(np.int32)
        y += total.astype(np.float32) * (xs[:, g, None] * scales[g])
        start = end
    return y


def dense(group, data, N, K):
    """float32 (K, N): scale · q."""
    q, scale = untile(data, N, K, group)
    return q * np.repeat(scale, group_sizes(K, group), axis=0)
