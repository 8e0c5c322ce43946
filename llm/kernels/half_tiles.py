"""Day 38 · A product of bfloat16 numbers with float32 sums, in registers: what BLAS does not do.

    c (M, N) = start + a (M, K) · b (K, N)

Two neighbours in k are packed into 32 bits. One instruction, vdpbf16ps, takes 16 pairs of b and one
pair of a and adds both products to 16 sums: 64 operations, twice those of a float32 register. A
tile of 12 rows and 32 columns keeps its 24 registers of sums for a whole block of k.

Here are the tile and the loops around it; kernels/half.py packs the operands. Left out: processors
without AVX512-BF16, and AMX. Source: Intel, Instruction Set Reference, VDPBF16PS; Goto and van de
Geijn (2008), sections 4 and 5, for the blocks.
"""

from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from llm.kernels.emit import I32, Emit

ROWS, COLUMNS, LANES = 12, 32, 16       # 24 registers of sums, 2 of b, 1 of a: 27 of 32
DEEP = 192                              # pairs of k in a block: a panel of b takes 24 KiB of the L1
DOWN, ACROSS = 16, 16                   # panels of a and of b in a task: some 550 KiB of the L2


@intrinsic
def tile(typingctx, a, a_row, a_step, b, start, start_row, c, c_row, pairs, rows, columns):
    """c = start + a · b for one tile, on addresses and strides in bytes; pairs ≥ 1.

    a: pairs of bfloat16, a_row to the next row, a_step to the next pair. b: panels (pairs,
    COLUMNS) at 64 bytes. start_row 0 begins every row with the same numbers. Only the first `rows`
    rows and `columns` columns of start and c are touched.
    """
    kinds = types.void(*[types.int64] * 11)

    def codegen(context, builder, signature, arguments):
        a, a_row, a_step, b, start, start_row, c, c_row, pairs, rows, columns = arguments
        e, groups = Emit(builder, LANES), COLUMNS // LANES
        lines = [e.sum(a, e.times(a_row, i)) for i in range(ROWS)]
        masks = [mask(e, rows, columns, i, j) for i in range(ROWS) for j in range(groups)]

        def place(base, row, at):
            i, j = divmod(at, groups)
            return e.sum(base, e.times(row, i), 4 * LANES * j)

        def body(k, sums):
            panel, along, new = e.sum(b, e.times(k, 4 * COLUMNS)), e.b.mul(k, a_step), []
            vectors = [e.load(e.sum(panel, 4 * LANES * j), e.ints, 64) for j in range(groups)]
            for i, line in enumerate(lines):
                pair = e.all(e.load(e.sum(line, along), I32))
                new += [e.asm("vdpbf16ps $3, $2, $0", "=v,0,v,v", s, v, pair)
                        for s, v in zip(sums[groups * i:], vectors)]
            return new

        sums = [masked_load(e, place(start, start_row, at), m) for at, m in enumerate(masks)]
        for at, total in enumerate(e.loop(pairs, sums, body)):
            masked_store(e, total, place(c, c_row, at), masks[at])
        return context.get_dummy_value()
    return kinds, codegen


def mask(e, rows, columns, i, j):
    """Which lanes of row i, register j lie inside (rows, columns)."""
    lanes = ir.Constant(e.ints, [LANES * j + lane for lane in range(LANES)])
    inside = e.b.icmp_signed("<", lanes, e.all(e.b.trunc(columns, I32)))
    none = ir.Constant(inside.type, [0] * LANES)
    return e.b.select(e.b.icmp_signed("<", ir.Constant(rows.type, i), rows), inside, none)


def masked_load(e, address, mask):
    """16 floats from an address; 0, unread, where the mask is off."""
    pointer = e.b.inttoptr(address, e.floats.as_pointer())
    return e.ask("llvm.masked.load.v16f32.p0", e.floats, pointer, ir.Constant(I32, 4), mask,
                 ir.Constant(e.floats, [0.0] * LANES))


def masked_store(e, value, address, mask):
    """16 floats to an address, but only where the mask is on."""
    pointer = e.b.inttoptr(address, e.floats.as_pointer())
    e.ask("llvm.masked.store.v16f32.p0", ir.VoidType(), value, pointer, ir.Constant(I32, 4), mask)


@njit(parallel=True, error_model="numpy", cache=True)
def multiply(a, a_panel, a_row, a_step, b, start, c):
    """c (M, N) float32 ← start (N,) + a · b. 2·M·N·K operations.

    a, b: uint32 arrays of packed pairs; row i of a begins at panel i // ROWS · a_panel + i % ROWS ·
    a_row, its pairs a_step apart, counted in pairs; b is (panels, pairs, COLUMNS). A task is a
    block of c; in it one block of k after another, so that both packed blocks stay in caches.
    """
    M, N = c.shape
    panels, pairs = b.shape[0], b.shape[1]
    tall = (M + ROWS - 1) // ROWS
    down = min(DOWN, (tall + 3) // 4)                    # at least four tasks for the threads
    groups = (tall + down - 1) // down
    a_at, b_at, c_at, start_at = a.ctypes.data, b.ctypes.data, c.ctypes.data, start.ctypes.data
    for task in prange(groups * ((panels + ACROSS - 1) // ACROSS)):
        top, left = task % groups * down, task // groups * ACROSS
        for k in range(0, pairs, DEEP):
            deep = min(DEEP, pairs - k)
            for j in range(left, min(left + ACROSS, panels)):
                begin = start_at + 4 * COLUMNS * j if k == 0 else 0
                for i in range(top, min(top + down, tall)):
                    at = c_at + 4 * (ROWS * i * N + COLUMNS * j)
                    tile(a_at + 4 * (i * a_panel + k * a_step), 4 * a_row, 4 * a_step,
                         b_at + 4 * COLUMNS * (j * pairs + k), begin if k == 0 else at,
                         0 if k == 0 else 4 * N, at, 4 * N, deep, M - ROWS * i, N - COLUMNS * j)
