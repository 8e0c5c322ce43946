"""Day 52 · Activations for the products: rounded to 8 bits, 32 to a scale, or summed in floats.

    scale = max |x| / 127      q = x / scale to the nearest integer      |x − scale · q| ≤ scale / 2

Every matrix wants its vector rounded first, some 100,000 numbers a token, and a loop in Numba
takes 25 ns for 32 of them because it finds their largest one by one. Written as one vector of 32
it takes 6. A float near 1.5 · 2²³ has no bits for fractions: x / scale added to that number is
rounded, and the difference in bits is the integer. Left out: what is multiplied by them
(lanes.py, products.py).
"""

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from llm.kernels.emit import F32, I32, Emit

BYTES = ir.VectorType(ir.IntType(8), 32)
ROUND, ROUNDED = 1.5 * 2 ** 23, 0x4B400000               # the number, and its bits
WORK = 44                                                # bytes of a prepared block


@intrinsic
def round_blocks(typingctx, x, work, nb):
    """From x, nb blocks of 32 float32, to `work` as `prepare8` has it; both are addresses."""
    def codegen(context, builder, signature, arguments):
        x, work, nb = arguments
        e, b, number = Emit(builder, 32), builder, lambda value: ir.Constant(F32, value)
        scales, sums, lows = (e.sum(work, e.times(nb, n)) for n in (32, 36, 40))

        def body(i, nothing):
            four, v = e.times(i, 4), e.load(e.sum(x, e.times(i, 128)), e.floats)
            size = b.bitcast(b.and_(b.bitcast(v, e.ints), e.all(0x7FFFFFFF)), e.floats)
            top = e.ask("llvm.vector.reduce.fmax.v32f32", F32, size)
            some = b.fcmp_ordered(">", top, number(0.0))
            inverse = b.select(some, b.fdiv(number(127.0), top), number(0.0))
            near = e.fma(v, e.all(inverse), e.all(number(ROUND)))
            q = b.sub(b.bitcast(near, e.ints), e.all(ROUNDED))
            total = e.ask("llvm.vector.reduce.add.v32i32", I32, q)
            scale = b.fdiv(top, number(127.0))
            e.store(b.trunc(q, BYTES), e.sum(work, e.times(i, 32)))
            e.store(scale, e.sum(scales, four))
            e.store(total, e.sum(sums, four))
            e.store(b.fmul(scale, b.sitofp(total, F32)), e.sum(lows, four))
            return nothing

        e.loop(nb, [], body)
        return context.get_dummy_value()
    return types.void(x, work, nb), codegen


@njit(error_model="numpy", cache=True)
def prepare8(x, work):
    """x (K,) -> work: K int8; then, K/32 of each, scales (float32), sums of the int8 (int32), and
    products of scale and sum (float32). A block of zeros has the scale 0.
    """
    round_blocks(x.ctypes.data, work.ctypes.data, x.shape[0] // 32)


@njit(fastmath=True, error_model="numpy", cache=True)
def prepare_sums(x, work):
    """x (K,) -> work: K/32 sums of 32 numbers each (float32), for the minima."""
    sums = work[:x.shape[0] // 8].view(np.float32)
    for b in range(sums.shape[0]):
        total = np.float32(0)
        for k in range(32 * b, 32 * b + 32):
            total += x[k]
        sums[b] = total
