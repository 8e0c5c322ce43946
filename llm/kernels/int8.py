"""Day 44 · INT8: 8-bit weights and activations, sums of 32 bits, a format for day 43's engine.

y[n] = Σ_g xs[g] · ws[g, n] · Σ_{k in g} xq[k] · wq[k, n], with one group of all inputs (INT8), or
groups of some (`int8(32)`). Weights are rounded once, activations when they come, each symmetric
in −127 … 127. The inner sum is one of integers, and exact. A tile of R outputs is, group by group,
R scales (float32), then the group's weights as W[k, row] (int8): a byte each, read front to back.

Portable: nothing but Numba, whose compiler widens 16 bytes at a time to the lanes of a register.
Left out: instructions that multiply bytes, four times as many at once (day 52), and zeros other
than 0, whose correction `llm/quantize/integer.py` derives.
"""

from functools import cache, partial

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from llm.kernels.int8_tiles import HEAD, TINY, TOP, dense, matmul, pack
from llm.kernels.matvec import Format, R


@intrinsic
def on_the_stack(typingctx):
    """The address of R integers of 32 bits that live as long as the call: nothing is allocated."""
    def codegen(context, builder, signature, values):
        place = cgutils.alloca_once(builder, ir.IntType(32), R)
        return builder.bitcast(place, ir.IntType(8).as_pointer())
    return types.voidptr(), codegen


@njit(error_model="numpy")
def sum_products(w, x, sums):
    """sums[row] = Σ_k x[k] · w[k, row], exactly; w flat (n·R,) int8, x (n,) int16, sums int32.

    A product is at most 127² = 16,129 in size, so two fit in 16 bits (32,258 < 2¹⁵) and a third
    does not. Pairs are added there, where a register has twice the lanes, and pairs of pairs in 32.
    """
    for r in range(R):
        sums[r] = 0
    for k in range(0, x.size - 3, 4):
        part, x0, x1, x2, x3 = w[k * R:(k + 4) * R], x[k], x[k + 1], x[k + 2], x[k + 3]
        for r in range(R):
            a = np.int16(np.int16(part[r] * x0) + np.int16(part[r + R] * x1))
            b = np.int16(np.int16(part[r + 2 * R] * x2) + np.int16(part[r + 3 * R] * x3))
            sums[r] += np.int32(a) + np.int32(b)
    for k in range(x.size // 4 * 4, x.size):
        part = w[k * R:(k + 1) * R]
        for r in range(R):
            sums[r] += np.int32(part[r]) * np.int32(x[k])


def compiled(group):
    """(prepare, rows) for groups of so many inputs; 0: one group of all.

    Only a number is captured, so that Numba finds the compiled functions in its cache again.
    """
    @njit(error_model="numpy", cache=True)
    def prepare(x, work):
        """work ← a scale a group (float32), then x's integers (int16). 4·K FLOPs."""
        K, size = x.size, group or x.size
        groups = (K + size - 1) // size
        scales = work[:4 * groups].view(np.float32)
        q = work[4 * groups:4 * groups + 2 * K].view(np.int16)
        for g in range(groups):
            part, top = x[g * size:(g + 1) * size], np.float32(0)
            for k in range(part.size):
                top = max(top, abs(part[k]))
            scale = top / np.float32(TOP)
            scales[g] = scale if scale >= TINY else np.float32(1)
            for k in range(part.size):
                q[g * size + k] = np.int16(np.rint(part[k] / scales[g]))

    @njit(error_model="numpy", cache=True)
    def rows(data, x, work, y, K, first, last):
        """Day 43's `rows`: 2·R·K integer operations a tile, R·(K + 4·groups) bytes."""
        size = group or K
        groups = (K + size - 1) // size
        scales = work[:4 * groups].view(np.float32)
        q = work[4 * groups:4 * groups + 2 * K].view(np.int16)
        sums, at = carray(on_the_stack(), (R,), np.int32), first * (groups * HEAD + R * K)
        for tile in range(first, last):
            out = y[tile * R:(tile + 1) * R]
            for r in range(R):
                out[r] = np.float32(0)
            for g in range(groups):
                part, head = q[g * size:(g + 1) * size], data[at:at + HEAD].view(np.float32)
                at += HEAD
                sum_products(data[at:at + R * part.size].view(np.int8), part, sums)
                at += R * part.size
                for r in range(R):
                    out[r] += np.float32(sums[r]) * (scales[g] * head[r])
    return prepare, rows


@cache
def int8(group=None):
    """The Format: groups of `group` inputs that share a scale, of weights and of activations.

    bits: 8, and 32 / group for the scales; without groups those of a row are not counted, 32 / K.
    """
    if group is not None and group < 1:
        raise ValueError(f"groups of {group} inputs: wanted 1 or more, or None")
    name, bits = (f"INT8, groups of {group}", 8 + 32 / group) if group else ("INT8", 8.0)
    return Format(name, bits, partial(pack, group), *compiled(group or 0), partial(matmul, group),
                  partial(dense, group))


INT8 = int8()
