"""Day 52 · Products of small integers, 8 or 16 outputs at once: instructions Numba does not emit.

Processors multiply bytes much faster than floats: vpdpbusd (AVX-512 VNNI) takes 64 pairs of
bytes, unsigned times signed, and adds them by fours to 16 sums of 32 bits. No loop written in
Python makes the compiler use it with this layout, so the loop over a tile's blocks is built here
instruction by instruction, in LLVM's own language. What it computes is

    y[row] = Σ_b scale[b, row] · xs[b] · (Σ_k q[b, row, k] · xq[b, k] − offset · sum[b])
             + minimum[b, row] · xs[b] · sum[b]              with sum[b] = Σ_k xq[b, k]

where xq are the activations in 8 bits and xs their scales (`prepare8` in kernels/activations.py).
The sums of integers are exact; floats are rounded once a block. A lane is one output: nothing is
ever summed across lanes. Ask kernels/cpu.py first: on a processor without the instruction the
process is killed. Left out: processors with neither VNNI nor AVX2 (products.py has plain loops).
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from llm.kernels.blocks import Layout
from llm.kernels.emit import F32, I16, I32, Emit
from llm.kernels.matvec import R


def start_at(e, offset, total):
    """−offset · total in every lane."""
    return e.all(e.b.mul(total, ir.Constant(I32, -offset))) if offset else e.all(0)


def vnni(e, layout, word, x, totals, groups):
    """Sums of the bytes of words, unsigned, times those of activations, by fours; −offset · sum.

    word(r, g), x(m, g): registers with word g of group r of outputs, and of vector m (in all
    lanes); totals[m]. -> dots[m][r]. Words are read in the order in which they lie in memory,
    which is what the processor's own reading ahead expects. Every chain of sums waits for itself
    only: there are as many as vectors times groups, and the processor works on all of them.
    """
    dots = [[start_at(e, layout.offset, total)] * groups for total in totals]
    for g in order(layout):
        words = [word(r, g) for r in range(groups)]
        for m, row in enumerate(dots):
            for r, w in enumerate(words):
                row[r] = e.asm("vpdpbusd $3, $2, $0", "=v,0,v,v", row[r], w, x(m, g))
    return dots


def avx2(e, layout, word, x, totals, groups):
    """The same in AVX2, whose product of bytes adds by twos to 16 bits, and must not exceed them.

    Sixteen products of at most 15 · 127 fit, and eight of 31 · 127: so many are added before they
    are widened. Above: |q − 128| · (xq with the sign of q − 128), two products of at most 128 ·
    127 fit; the offset is then taken off already.
    """
    ones, short, signed = e.all(0x00010001), ir.VectorType(I16, 2 * e.lanes), layout.top > 31
    dots = [[start_at(e, 0 if signed else layout.offset, total)] * groups for total in totals]
    size = {15: 8, 31: 4, 255: 1}[layout.top]
    for run in (order(layout)[i:i + size] for i in range(0, 8, size)):
        parts = [[None] * groups for _ in totals]
        for g in run:
            for r in range(groups):
                w = absolute = word(r, g)
                if signed:
                    w = e.b.xor(w, e.all(-0x7F7F7F80))                  # each byte − 128
                    absolute = e.asm("vpabsb $1, $0", "=x,x", w)
                for m, row in enumerate(parts):
                    a = e.asm("vpsignb $2, $1, $0", "=x,x,x", x(m, g), w) if signed else x(m, g)
                    two = e.b.bitcast(e.asm("vpmaddubsw $2, $1, $0", "=x,x,x", absolute, a), short)
                    row[r] = two if row[r] is None else e.b.add(row[r], two)
        for m, row in enumerate(parts):
            for r, part in enumerate(row):
                four = e.asm("vpmaddwd $2, $1, $0", "=x,x,x", e.b.bitcast(part, e.ints), ones)
                dots[m][r] = e.b.add(dots[m][r], four)
    return dots


def order(layout):
    """In which order words lie in memory: with 4 bits, g and 4 + g are in the same bytes."""
    return list(range(8)) if layout.bits == 8 else [0, 4, 1, 5, 2, 6, 3, 7]


# By lanes: the sums, and how many bytes ahead of one vector's product memory is asked for. AVX2
# takes so many instructions a line that the processor does not see the next lines in time; VNNI
# needs few enough, and asking ahead only gets in its way.
DOTS = {16: (vnni, 0), 8: (avx2, 1 << 14)}


@intrinsic(prefer_literal=True)
def product(typingctx, data, work, stride, y, wide, nb, row, groups, tokens, lanes, bits, minima):
    """product(…): y[m, :groups · lanes] for outputs from `row` of a tile on, m < tokens vectors.

    data, work, y: addresses of the tile, of the prepared activations and of y[0, row]; stride,
    wide: bytes from one vector to the next in work and y; nb blocks. The last five are constants
    where it is called.
    """
    kinds = types.void(data, work, stride, y, wide, nb, row, groups, tokens, lanes, bits, minima)
    groups, tokens, lanes, bits, minima = (kind.literal_value for kind in kinds.args[7:])
    layout, (dot, ahead) = Layout(bits, bool(minima)), DOTS[lanes]

    def codegen(context, builder, signature, arguments):
        data, work, stride, y, wide, nb, row = arguments[:7]
        e = Emit(builder, lanes)
        starts = [work]
        for _ in range(tokens - 1):
            starts.append(e.sum(starts[-1], stride))
        scales, sums, lows = (e.times(nb, n) for n in (32, 36, 40))

        def body(b, rows):
            block, xb, four = e.sum(data, e.times(b, layout.step)), e.times(b, 32), e.times(b, 4)
            words, heads = (e.sum(block, layout.head, e.times(row, 4)),
                            e.sum(block, e.times(row, 2)))
            loaded, new = {}, list(rows)

            def word(r, g):
                if (r, g % bits) not in loaded:
                    at = e.sum(words, 4 * (lanes * r + R * (g % bits)))
                    loaded[r, g % bits] = e.load(at, e.ints)
                w = loaded[r, g % bits]
                if bits == 8:
                    return w
                return e.b.and_(e.b.lshr(w, e.all(4)) if g >= 4 else w, e.all(0x0F0F0F0F))

            def x(m, g):
                if ('x', m, g) not in loaded:
                    loaded['x', m, g] = e.all(e.load(e.sum(starts[m], xb, 4 * g), I32))
                return loaded['x', m, g]

            def number(m, where, kind):
                return e.load(e.sum(starts[m], where, four), kind)

            totals = [number(m, sums, I32) for m in range(tokens)]
            if ahead and tokens == 1:
                for line in range(0, layout.step, 64):
                    e.prefetch(e.sum(block, ahead + line))
            dots = dot(e, layout, word, x, totals, groups)
            for i, d in enumerate(d for row in dots for d in row):
                m, head = i // groups, e.sum(heads, 2 * lanes * (i % groups))
                if layout.minima:
                    new[i] = e.fma(e.half(e.sum(head, 2 * R)), e.all(number(m, lows, F32)), new[i])
                scale = e.b.fmul(e.half(head), e.all(number(m, scales, F32)))
                new[i] = e.fma(e.b.sitofp(d, e.floats), scale, new[i])
            return new

        result = e.loop(nb, [e.b.bitcast(e.all(0), e.floats)] * (tokens * groups), body)
        for m in range(tokens):
            for r in range(groups):
                e.store(result[groups * m + r], e.sum(y, 4 * lanes * r))
            y = e.sum(y, wide)
        return context.get_dummy_value()
    return kinds, codegen
