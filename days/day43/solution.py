"""Day 43 · Solutions."""

import numpy as np
from numba import njit

from llm.generate.architecture import shapes
from llm.kernels.matvec import Format, R, aligned, prepare_float32, tiles


def pack(w):
    K, N = w.shape
    bits = np.zeros((tiles(N), K, R), np.uint32)
    u = np.ascontiguousarray(w, np.float32).view(np.uint32)
    u = (u + 0x7FFF + ((u >> 16) & 1)) >> 16
    for tile in range(tiles(N)):
        part = u[:, tile * R:(tile + 1) * R]
        bits[tile, :, :part.shape[1]] = part
    data = aligned(2 * bits.size)
    data.view(np.uint16)[:] = bits.reshape(-1)
    return data


@njit(fastmath=True, error_model="numpy")
def rows(data, x, work, y, K, first, last):
    w = data.view(np.uint16)
    for tile in range(first, last):
        out = y[tile * R:(tile + 1) * R]
        for r in range(R):
            out[r] = np.float32(0)
        for k in range(K):
            part = w[(tile * K + k) * R:(tile * K + k + 1) * R]
            for r in range(R):
                out[r] += np.uint32(np.uint32(part[r]) << np.uint32(16)).view(np.float32) * x[k]


def dense(data, N, K):
    wide = (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return wide.reshape(-1, K, R).swapaxes(0, 1).reshape(K, -1)[:, :N].copy()


def bfloat16():
    return Format("bfloat16", 16.0, pack, prepare_float32, rows,
                  lambda data, x, N: x @ dense(data, N, x.shape[1]), dense)


def bound(arch, bits, position, gigabytes):
    matrices = {name: shape for name, shape in shapes(arch)[0].items() if name.endswith(".w")}
    weights = sum(K * R * tiles(N) for K, N in [*matrices.values(), (arch.C, arch.V)])
    cache = 8 * arch.L * arch.K * arch.D * position
    return gigabytes * 1e9 / (weights * bits / 8 + cache)
