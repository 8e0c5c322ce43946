"""Day 45 · INT4: the format of 4-bit weights, and the kernel that multiplies by them.

Rows of W lie in day 43's tiles of 64 outputs. A tile is stored group by group, and a group of 32
inputs takes 1,280 bytes, which is 5 bits a weight:

    scales   64 float16          minima   64 float16
    bytes    (16, 64): byte (j, r) holds inputs j (low four bits) and j + 16 (high) of output r

Neighbouring bytes belong to neighbouring outputs, so that the compiler unpacks a whole register
of them at once. Scale and minimum leave the sum over a group:

    Σ_k (scale · q_k + minimum) x_k = scale · Σ_k q_k x_k + minimum · Σ_k x_k

and Σ_k x_k is the same for all outputs: `prepare` computes it once. Activations stay float32.
Left out: activations in 8 bits and integer instructions, which day 52 uses; other group sizes.
Source: GGUF's `block_q4_1` in ggml-common.h has the same bytes for one output.
"""

import numpy as np
from numba import njit

from llm.kernels.matvec import Format, R, aligned, tiles
from llm.kernels.step import fit, wide

GROUP = 32                                  # inputs that share a scale and a minimum
HALF, SIXTEENTH = GROUP // 2, np.float32(1 / 16)
HEAD = 4 * R                                # bytes of scales and minima in front of a group
STEP = HEAD + R * HALF                      # bytes from one group of a tile to the next
AT_ONCE = 16                                # tiles that `matmul` unpacks before it multiplies


def groups_of(K):
    """How many groups cover K inputs."""
    return -(-K // GROUP)


@njit(error_model="numpy", cache=True)
def round_groups(w, q, scale, minimum):
    """Round w (K, N) float32 to nearest: q (K, N) uint8, scale, minimum (G, N) uint16 (float16).

    The twin of `quantise` in llm/quantize/int4.py: the same numbers, without its temporaries.
    """
    K, N = w.shape
    for g in range(scale.shape[0]):
        first, last = GROUP * g, min(GROUP * g + GROUP, K)
        for n in range(N):
            least = most = w[first, n]
            for k in range(first, last):
                least, most = min(least, w[k, n]), max(most, w[k, n])
            minimum[g, n] = fit(least, minimum[g, n])
            m = wide(minimum[g, n])
            scale[g, n] = fit((most - m) / np.float32(15), scale[g, n])
            s = wide(scale[g, n])
            for k in range(first, last):
                step = (w[k, n] - m) / s if s != 0 else np.float32(0)
                q[k, n] = np.uint8(min(max(np.rint(step), np.float32(0)), np.float32(15)))


def tile(q, scale, minimum):
    """Groups as the bytes of all tiles; outputs past N and inputs past K are zero.

    q (K, N) uint8; scale, minimum (G, N), numbers that float16 has, or its bits as uint16.
    Raises ValueError where the shapes do not belong together.
    """
    (K, N), G = q.shape, groups_of(q.shape[0])
    if scale.shape != (G, N) or minimum.shape != (G, N):
        raise ValueError(f"q {q.shape} wants scales and minima ({G}, {N}), not {scale.shape} and "
                         f"{minimum.shape}")
    data = aligned(tiles(N) * G * STEP)
    block = data.reshape(tiles(N), G, STEP)
    padded = np.zeros((G * GROUP, tiles(N) * R), np.uint8)
    padded[:K, :N] = q
    halves = padded.reshape(G, 2, HALF, tiles(N), R)
    packed = halves[:, 0] | halves[:, 1] << 4                                  # (G, 16, tiles, R)
    block[:, :, HEAD:] = packed.transpose(2, 0, 1, 3).reshape(tiles(N), G, -1)
    for i, numbers in enumerate((scale, minimum)):
        bits = numbers if numbers.dtype == np.uint16 else numbers.astype(np.float16).view(np.uint16)
        wider = np.zeros((G, tiles(N) * R), np.uint16)
        wider[:, :N] = bits
        part = np.ascontiguousarray(wider.reshape(G, -1, R).swapaxes(0, 1))    # (tiles, G, R)
        block[:, :, 2 * R * i:2 * R * (i + 1)] = part.view(np.uint8)
    return data


def pack(w):
    """float32 (K, N), as `Linear` stores it, rounded to nearest -> the bytes of all tiles.

    Raises ValueError unless w is a matrix of finite numbers whose scales fit float16.
    """
    w = np.ascontiguousarray(w, np.float32)
    if w.ndim != 2 or w.size == 0:
        raise ValueError(f"a matrix of shape {w.shape} cannot be packed: wanted (inputs, outputs)")
    K, N = w.shape
    q, scale = np.empty((K, N), np.uint8), np.empty((groups_of(K), N), np.uint16)
    minimum = np.empty_like(scale)
    round_groups(w, q, scale, minimum)
    if not (np.isfinite(w).all() and np.isfinite(scale.view(np.float16)).all()
            and np.isfinite(minimum.view(np.float16)).all()):
        raise ValueError(f"a matrix of shape {w.shape} does not fit INT4: its weights are not "
                         "finite, or a scale is beyond float16; keep it in float32")
    return tile(q, scale, minimum)


@njit(fastmath=True, error_model="numpy", cache=True)
def prepare(x, work):
    """work ← for every group of x (K,), what its 16 bytes are multiplied by, and its sum.

    A byte is p = low + 16·high, and low·a + high·b = low·(a − b/16) + p·(b/16) for the inputs a
    and b that belong to it. So `rows` never shifts, which is slow for bytes. Inputs past K are 0.
    """
    groups = (x.size + GROUP - 1) // GROUP
    numbers = work[:4 * groups * (GROUP + 1)].view(np.float32)
    for g in range(groups):
        total = np.float32(0)
        for j in range(HALF):
            k = GROUP * g + j
            a = x[k] if k < x.size else np.float32(0)
            b = x[k + HALF] if k + HALF < x.size else np.float32(0)
            numbers[k] = a - b * SIXTEENTH
            numbers[k + HALF] = b * SIXTEENTH
            total += a + b
        numbers[GROUP * groups + g] = total


@njit(fastmath=True, error_model="numpy", cache=True)
def rows(data, x, work, y, K, first, last):
    """y[64·first : 64·last] = W x. Each group of a tile: 1,280 bytes, 4,096 useful FLOPs.

    Four bytes a turn hold eight weights of an output. They are summed before the scale comes in,
    which is read and widened once a turn.
    """
    groups = (K + GROUP - 1) // GROUP
    numbers = work[:4 * groups * (GROUP + 1)].view(np.float32)
    for i in range(first, last):
        out = y[R * i:R * i + R]
        for r in range(R):
            out[r] = np.float32(0)
        for g in range(groups):
            at, total = STEP * (i * groups + g), numbers[GROUP * groups + g]
            heads = data[at:at + HEAD].view(np.uint16)
            for r in range(R):
                out[r] += wide(heads[R + r]) * total
            for j in range(0, HALF, 4):
                part = data[at + HEAD + R * j:at + HEAD + R * (j + 4)]
                low, both = numbers[GROUP * g + j:], numbers[GROUP * g + HALF + j:]
                a0, a1, a2, a3 = low[0], low[1], low[2], low[3]
                b0, b1, b2, b3 = both[0], both[1], both[2], both[3]
                for r in range(R):
                    p0, p1, p2, p3 = part[r], part[r + R], part[r + 2 * R], part[r + 3 * R]
                    out[r] += wide(heads[r]) * (
                        np.float32(p0 & 15) * a0 + np.float32(p0) * b0
                        + np.float32(p1 & 15) * a1 + np.float32(p1) * b1
                        + np.float32(p2 & 15) * a2 + np.float32(p2) * b2
                        + np.float32(p3 & 15) * a3 + np.float32(p3) * b3)


def unpack(data, K):
    """The bytes of some tiles -> float32 (K, 64·tiles)."""
    groups = groups_of(K)
    block = data.reshape(-1, groups, STEP)
    heads = block[:, :, :HEAD].copy().view(np.float16).astype(np.float32)      # (tiles, G, 2·R)
    packed = block[:, :, HEAD:].reshape(len(block), groups, HALF, R)
    q = np.concatenate([packed & 15, packed >> 4], axis=2)                     # (tiles, G, 32, R)
    w = q * heads[:, :, None, :R] + heads[:, :, None, R:]
    return w.reshape(len(block), -1, R).swapaxes(0, 1).reshape(groups * GROUP, -1)[:K]


def matmul(data, x, N):
    """x (n, K) -> x Wᵀ (n, N): AT_ONCE tiles are unpacked, multiplied by BLAS, and forgotten."""
    n, K = x.shape
    size, out = groups_of(K) * STEP, np.empty((n, tiles(N) * R), np.float32)
    for first in range(0, tiles(N), AT_ONCE):
        part = slice(first * R, (first + AT_ONCE) * R)
        out[:, part] = x @ unpack(data[first * size:(first + AT_ONCE) * size], K)
    return out[:, :N]


def dense(data, N, K):
    """The matrix (K, N) that `rows` multiplies by, float32."""
    return np.ascontiguousarray(unpack(data, K)[:, :N])


INT4 = Format("int4", 8 * STEP / (R * GROUP), pack, prepare, rows, matmul, dense)
