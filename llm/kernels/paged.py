"""Day 47 · Kernels for many requests at once: a product that reads W once, and paged attention.

Every number that comes out is computed by one fixed chain of operations, whatever is computed
beside it: an output of `multiply` is K fused multiply-adds in the order of the inputs, and a head
of `attend` is one loop over the keys of its own row. So a row's result does not depend on its
neighbours, to the last bit. float32. Left out: caches of 16 bits, and keys in pieces (day 50).
"""

from contextlib import contextmanager
from dataclasses import replace

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from llm.kernels.elementwise import exp32
from llm.kernels.matvec import FLOAT32, R, tiles

WIDE = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
LANES, COLUMNS = (16, 64) if WIDE else (8, 16)        # 4 · COLUMNS sums fit into the registers
WORTH = 1 << 22                                       # FLOPs for which a second thread pays
ONE, ZERO = np.float32(1), np.float32(0)


def chain(rows):
    """An intrinsic: y (rows, COLUMNS) ← x (rows, K) · W (K, COLUMNS), every sum in a register.

    Each step of k loads a line of W once and uses it `rows` times. The arguments are addresses
    and strides in bytes: w, whose lines are 4·R apart; x, x_row; y, y_row; then K.
    """
    @intrinsic
    def tile(typingctx, w, x, x_row, y, y_row, K):
        def codegen(context, b, signature, arguments):
            w, x, x_row, y, y_row, K = arguments
            word, number = w.type, ir.FloatType()
            lanes, parts = ir.VectorType(number, LANES), range(COLUMNS // LANES)
            fma = b.module.declare_intrinsic(f"llvm.fma.v{LANES}f32",
                                             fnty=ir.FunctionType(lanes, [lanes] * 3))
            zeros = ir.Constant(lanes, [0.0] * LANES)
            nowhere = ir.Constant(lanes, ir.Undefined)
            first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

            def at(start, step, i, kind):
                return b.inttoptr(b.add(start, b.mul(step, i)), kind.as_pointer())

            sums = [[cgutils.alloca_once(b, lanes) for _ in parts] for _ in range(rows)]
            for i in range(rows):
                for j in parts:
                    b.store(zeros, sums[i][j])
            with cgutils.for_range(b, K) as loop:
                line = b.add(w, b.mul(loop.index, word(4 * R)))
                weights = [b.load(at(line, word(4 * LANES), word(j), lanes), align=4)
                           for j in parts]
                for i in range(rows):
                    start = b.add(x, b.mul(x_row, word(i)))
                    one = b.load(at(start, word(4), loop.index, number), align=4)
                    one = b.insert_element(nowhere, one, ir.IntType(32)(0))
                    one = b.shuffle_vector(one, nowhere, first)          # in every lane
                    for j in parts:
                        b.store(b.call(fma, [one, weights[j], b.load(sums[i][j])]), sums[i][j])
            for i in range(rows):
                start = b.add(y, b.mul(y_row, word(i)))
                for j in parts:
                    b.store(b.load(sums[i][j]), at(start, word(4 * LANES), word(j), lanes),
                            align=4)
            return context.get_dummy_value()
        return types.void(*[types.int64] * 6), codegen
    return tile


one, two, three, four = (chain(rows) for rows in (1, 2, 3, 4))


@njit(error_model="numpy", parallel=True, cache=True)
def rows_times(data, x, y):
    """y (n, 64·tiles) ← x (n, K) · W, which lies in day 43's tiles. 2·n FLOPs a weight.

    A tile of W, (K, 64), comes from memory once and stays in the near cache for all rows.
    """
    n, K = x.shape
    wide = y.shape[1]
    w, start, out = np.int64(data.ctypes.data), np.int64(x.ctypes.data), np.int64(y.ctypes.data)
    for tile in prange(wide // R):
        for column in range(0, R, COLUMNS):
            part = w + 4 * (tile * K * R + column)
            place = out + 4 * (tile * R + column)
            for i in range(0, n, 4):
                a, b = start + 4 * i * K, place + 4 * i * wide
                if n - i >= 4:
                    four(part, a, 4 * K, b, 4 * wide, K)
                elif n - i == 3:
                    three(part, a, 4 * K, b, 4 * wide, K)
                elif n - i == 2:
                    two(part, a, 4 * K, b, 4 * wide, K)
                else:
                    one(part, a, 4 * K, b, 4 * wide, K)


def multiply(data, x, N):
    """x (n, K) float32 by the packed matrix (N outputs) -> (n, N): a Format's `matmul`."""
    x = np.ascontiguousarray(x, np.float32)
    y = np.empty((len(x), R * tiles(N)), np.float32)
    with threads_for(2 * x.size * N):
        rows_times(data, x, y)
    return y[:, :N]


@contextmanager
def threads_for(flops):
    """All threads for a kernel of more than WORTH FLOPs, else one; afterwards it is as before.

    The number of threads never changes a result.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS if flops > WORTH else 1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


ROWS32 = replace(FLOAT32, name="float32, row by row", matmul=multiply)


@njit(fastmath=True, error_model="numpy", parallel=True, cache=True)
def attend_rows(q, k, v, tables, positions, scores, out):
    """out (N, H·D) ← row j of q (H, N, D) meets the keys at positions 0 … positions[j].

    k, v (blocks, K, size, D): token t of row j lies in block tables[j, t // size], at t % size.
    scores (N, H, ≥ longest): a desk. 4·D FLOPs a head and key; 8·D bytes for K / H of them.
    """
    H, N, D = q.shape
    _, K, size, _ = k.shape
    factor = ONE / np.sqrt(np.float32(D))
    for task in prange(N * H):
        j, h = task // H, task % H
        g, n = h // (H // K), positions[j] + 1
        query, desk, sums = q[h, j], scores[j, h], out[j, h * D:(h + 1) * D]
        for t in range(n):
            key, dot = k[tables[j, t // size], g, t % size], ZERO
            for d in range(D):
                dot += query[d] * key[d]
            desk[t] = dot * factor
        top = desk[0]
        for t in range(1, n):
            top = max(top, desk[t])
        total = ZERO
        for t in range(n):
            desk[t] = exp32(desk[t] - top)
            total += desk[t]
        for d in range(D):
            sums[d] = ZERO
        for t in range(n):
            value, weight = v[tables[j, t // size], g, t % size], desk[t]
            for d in range(D):
                sums[d] += weight * value[d]
        for d in range(D):
            sums[d] /= total


def attend(q, k, v, tables, positions):
    """The twin of `gathered` (llm/generate/batch.py), float32: nothing is copied together."""
    H, N, D = q.shape
    longest = int(positions.max()) + 1
    scores, out = np.empty((N, H, longest), np.float32), np.empty((N, H * D), np.float32)
    with threads_for(4 * H * D * int(positions.sum())):
        attend_rows(np.ascontiguousarray(q), k, v, tables, positions, scores, out)
    return out
