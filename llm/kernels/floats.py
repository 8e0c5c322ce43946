"""Day 38 · A small float32 product whose sums stay in registers: for the tiles of attention.

    c[i, j] = Σ_k a[i, k] · b[k, j]        for a few rows i and a few columns j

Each step of k loads a row of b and multiplies it by one number of a for each row of c: with 12
rows and two registers of 16 columns, 24 sums grow at once and only 14 loads feed them. BLAS does
the same inside, but it has threads of its own, which fight with Numba's (threads.py), and a
product of one head and a few queries is small for it. The code uses LLVM's own vectors, so it runs
on any processor, in whatever registers that has. There are two kinds: `tile` writes c, and
`tile_onto` adds to what c holds. Left out: parts of a tile; the caller pads.
"""

from numba.core import types
from numba.extending import intrinsic

from llm.kernels.cpu import features
from llm.kernels.emit import F32, Emit

# Rows and columns of c at once, and lanes: 24 of 32 registers hold sums, or 12 of 16. SOME: a
# number of rows that divides COLUMNS.
ROWS, SOME, COLUMNS, LANES = (12, 8, 32, 16) if "avx512f" in features() else (6, 4, 16, 8)


def codegen_of(rows, columns, lanes, onto):
    """The code of `tile` for these constants; onto: the sums begin with what c holds."""
    def codegen(context, builder, signature, arguments):
        a, a_row, a_step, b, b_row, c, c_row, n = arguments
        e, groups = Emit(builder, lanes), columns // lanes
        starts, outs = [a], [c]
        for _ in range(rows - 1):
            starts.append(e.sum(starts[-1], a_row))
            outs.append(e.sum(outs[-1], c_row))

        def body(k, sums):
            row, at, new = e.sum(b, e.b.mul(k, b_row)), e.b.mul(k, a_step), []
            vectors = [e.load(e.sum(row, 4 * lanes * j), e.floats) for j in range(groups)]
            for i, start in enumerate(starts):
                number = e.all(e.load(e.sum(start, at), F32))
                new += [e.fma(number, v, s) for v, s in zip(vectors, sums[groups * i:])]
            return new

        places = [e.sum(out, 4 * lanes * j) for out in outs for j in range(groups)]
        zero = e.b.bitcast(e.all(0), e.floats)
        sums = e.loop(n, [e.load(at, e.floats) if onto else zero for at in places], body)
        for total, at in zip(sums, places):
            e.store(total, at)
        return context.get_dummy_value()
    return codegen


def made(onto):
    """The intrinsic of one kind; onto: as in `codegen_of`."""
    @intrinsic(prefer_literal=True)
    def product(typingctx, a, a_row, a_step, b, b_row, c, c_row, n, rows, columns, lanes):
        kinds = types.void(a, a_row, a_step, b, b_row, c, c_row, n, rows, columns, lanes)
        code = codegen_of(*(kind.literal_value for kind in kinds.args[8:]), onto)
        return kinds, lambda context, builder, signature, values: code(context, builder, signature,
                                                                       values[:8])
    return product


# c (rows, columns) = a (rows, n) b (n, columns), or c += that, with n ≥ 1, on addresses and strides
# in bytes. a_step: from a number of a to the next in its row. The last three are constants.
tile, tile_onto = made(False), made(True)
