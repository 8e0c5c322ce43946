"""Day 52 · Products of small integers, 8 or 16 outputs at once: instructions Numba does not emit.

Processors multiply bytes much faster than floats: vpdpbusd (AVX-512 VNNI) takes 64 pairs of
bytes, unsigned times signed, and adds them by fours to 16 sums of 32 bits. No loop written in
Python makes the compiler use it with this layout, so the loop over a tile's blocks is built here
instruction by instruction, in LLVM's own language. What it computes is

    y[row] = Σ_b scale[b, row] · xs[b] · (Σ_k q[b, row, k] · xq[b, k] − offset · sum[b])
             + minimum[b, row] · xs[b] · sum[b]              with sum[b] = Σ_k xq[b, k]

where xq are the activations in 8 bits and xs their scales (`prepare8` in kernels/products.py).
The sums of integers are exact; floats are rounded once a block. A lane is one output: nothing is
ever summed across lanes. Ask kernels/cpu.py first: a processor without the instruction dies of it.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from llm.kernels.blocks import Layout
from llm.kernels.emit import F32, I16, I32, I64, Emit
from llm.kernels.matvec import R

def start_at(e, offset, total):
    """−offset · total in every lane."""
    return e.all(e.b.mul(total, ir.Constant(I32, -offset))) if offset else e.all(0)


def vnni(e, layout, words, xq, totals):
    """The sums of bytes of `words`, unsigned, times bytes of `xq`, by fours, and −offset · sum.

    xq[g][m]: for word g and vector m; totals[m]. -> one register of sums for each vector.
    The sums of 32 bits begin at −offset · total, which costs no instruction more.
    """
    dots = [start_at(e, layout.offset, total) for total in totals]
    for w, row in zip(words, xq):
        dots = [e.asm("vpdpbusd $3, $2, $0", "=v,0,v,v", d, w, x) for d, x in zip(dots, row)]
    return dots


def avx2(e, layout, words, xq, totals):
    """The same in AVX2, whose product of bytes adds by twos to 16 bits, and must not exceed them.

    Up to q = 31, eight products of at most 31 · 127 fit. Above: |q − 128| · (xq with the sign of
    q − 128), two products of at most 128 · 127 fit; the offset is then taken off already.
    """
    ones, short = e.all(0x00010001), ir.VectorType(I16, 2 * e.lanes)
    signed = layout.top > 31
    if signed:
        words = [e.b.xor(w, e.all(-0x7F7F7F80)) for w in words]         # each byte − 128
        sizes = [e.asm("vpabsb $1, $0", "=x,x", w) for w in words]
    result = []
    for total, *column in zip(totals, *xq):
        dots = start_at(e, 0 if signed else layout.offset, total)
        if signed:
            column = [e.asm("vpsignb $2, $1, $0", "=x,x,x", x, w) for w, x in zip(words, column)]
        twos = [e.b.bitcast(e.asm("vpmaddubsw $2, $1, $0", "=x,x,x", w, x), short)
                for w, x in zip(sizes if signed else words, column)]
        while len(twos) > 2 and not signed:                             # by fours into one
            twos = [e.b.add(a, b) for a, b in zip(twos[::2], twos[1::2])]
        for two in twos:
            dots = e.b.add(dots, e.asm("vpmaddwd $2, $1, $0", "=x,x,x", e.b.bitcast(two, e.ints),
                                       ones))
        result.append(dots)
    return result


def load_words(e, layout, address):
    """The words of as many outputs as there are lanes, for one block: eight vectors."""
    words = [e.load(e.sum(address, 64 * g), e.ints) for g in range(layout.bits)]
    if layout.bits == 4:
        mask, four = e.all(0x0F0F0F0F), e.all(4)
        words = ([e.b.and_(w, mask) for w in words]
                 + [e.b.and_(e.b.lshr(w, four), mask) for w in words])
    return words


def weigh(e, layout, dots, heads, least, scale, low, acc):
    """acc + dots · (scale of the weights · scale of the activations) + minimum · low."""
    if layout.minima:
        acc = e.fma(least, low, acc)
    return e.fma(e.b.sitofp(dots, e.floats), e.b.fmul(heads, scale), acc)


def constants(lanes, bits, minima):
    """The layout and the functions that literal arguments choose."""
    lanes = lanes.literal_value
    return lanes, DOTS[lanes], Layout(bits.literal_value, bool(minima.literal_value))


@intrinsic(prefer_literal=True)
def one(typingctx, data, work, y, nb, lanes, bits, minima):
    """one(data, work, y, nb, lanes, bits, minima): y[:64] of a tile, for one vector.

    data, work, y: addresses; the last three arguments are constants where it is called.
    """
    width, (dot, _), layout = constants(lanes, bits, minima)

    def codegen(context, builder, signature, arguments):
        data, work, y, nb = arguments[:4]
        e = Emit(builder, width)
        scales, sums, lows = (e.sum(work, e.times(nb, n)) for n in (32, 36, 40))

        def body(b, rows):
            block = e.sum(data, e.times(b, layout.step))
            x, four, new = e.sum(work, e.times(b, 32)), e.times(b, 4), []
            xq = [[e.all(e.load(e.sum(x, 4 * g), I32))] for g in range(8)]
            totals = [e.load(e.sum(sums, four), I32)]
            scale, low = (e.all(e.load(e.sum(at, four), F32)) for at in (scales, lows))
            for i, acc in enumerate(rows):
                row = width * i
                words = load_words(e, layout, e.sum(block, first_word(layout, row)))
                heads = e.half(e.sum(block, 2 * row))
                least = e.half(e.sum(block, 2 * (R + row))) if layout.minima else None
                new.append(weigh(e, layout, dot(e, layout, words, xq, totals)[0], heads, least,
                                 scale, low, acc))
            return new

        zero = e.b.bitcast(e.all(0), e.floats)
        for i, acc in enumerate(e.loop(nb, [zero] * (R // width), body)):
            e.store(acc, e.sum(y, 4 * width * i))
        return context.get_dummy_value()
    return types.void(data, work, y, nb, lanes, bits, minima), codegen


@intrinsic(prefer_literal=True)
def many(typingctx, data, work, stride, y, wide, nb, row, tokens, lanes, bits, minima):
    """many(…): y[i, :lanes] for the outputs row … row + lanes − 1 of a tile, i < tokens vectors.

    stride, wide: bytes from one vector to the next in work and y. The last four are constants.
    """
    (width, (dot, turns), layout), count = constants(lanes, bits, minima), tokens.literal_value

    def codegen(context, builder, signature, arguments):
        data, work, stride, y, wide, nb, row = arguments[:7]
        e = Emit(builder, width)
        starts = [work]
        for _ in range(count - 1):
            starts.append(e.sum(starts[-1], stride))
        scales, sums, lows = (e.times(nb, n) for n in (32, 36, 40))
        first = e.sum(first_word(layout, 0), e.times(e.b.and_(row, ir.Constant(I64, 15)), 4),
                      e.times(e.b.lshr(row, ir.Constant(I64, 4)), 64 * layout.bits))

        def body(b, rows):
            block, x, four = e.sum(data, e.times(b, layout.step)), e.times(b, 32), e.times(b, 4)
            words, head = load_words(e, layout, e.sum(block, first)), e.sum(block, e.times(row, 2))
            heads, new = e.half(head), []
            least = e.half(e.sum(head, 2 * R)) if layout.minima else None
            for some in range(0, count, turns):            # so many take turns, none waits for
                now = starts[some:some + turns]            # the sum before
                xq = [[e.all(e.load(e.sum(start, x, 4 * g), I32)) for start in now]
                      for g in range(8)]
                totals = [e.load(e.sum(start, sums, four), I32) for start in now]
                dots = dot(e, layout, words, xq, totals)
                for d, start, acc in zip(dots, now, rows[some:]):
                    low = e.all(e.load(e.sum(start, lows, four), F32)) if layout.minima else None
                    scale = e.all(e.load(e.sum(start, scales, four), F32))
                    new.append(weigh(e, layout, d, heads, least, scale, low, acc))
            return new

        zero = e.b.bitcast(e.all(0), e.floats)
        for acc in e.loop(nb, [zero] * count, body):
            e.store(acc, y)
            y = e.sum(y, wide)
        return context.get_dummy_value()
    return types.void(data, work, stride, y, wide, nb, row, tokens, lanes, bits, minima), codegen


DOTS = {16: (vnni, 4), 8: (avx2, 1)}         # by lanes: the product, and how many take turns


def first_word(layout, row):
    """Where in a block the words of output `row` begin."""
    return layout.head + row // 16 * layout.bits * 64 + row % 16 * 4
