"""Day 38 · Writing a loop in the compiler's own language: vectors of integers and floats.

Numba translates Python into LLVM's intermediate language, and an `@intrinsic` may write that
language itself. `Emit` is a handful of shorthands for it: loads and stores at addresses, the same
number in all lanes, a loop with its running values, and one instruction by name. Everything here
runs while Numba compiles; what it emits runs later. Left out: anything of one width only.
Source: LLVM Language Reference; llvmlite's manual, "IR layer".
"""

from llvmlite import binding, ir

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
F32 = ir.FloatType()
CONTRACT = ("contract",)                     # a·b + c may be rounded once
binding.initialize_native_asmparser()        # here: callers may find the code of `asm` in a cache


class Emit:
    """Shorthands over an IRBuilder for vectors of `lanes` numbers of 32 bits."""

    def __init__(self, builder, lanes):
        self.b, self.lanes = builder, lanes
        self.ints, self.floats = ir.VectorType(I32, lanes), ir.VectorType(F32, lanes)
        self.halves = ir.VectorType(ir.HalfType(), lanes)

    def sum(self, *terms):
        """Terms added as 64-bit integers; Python's ints become constants."""
        terms = [ir.Constant(I64, t) if isinstance(t, int) else t for t in terms]
        total = terms[0]
        for term in terms[1:]:
            total = self.b.add(total, term)
        return total

    def times(self, a, n):
        """a · n as a 64-bit integer; n: a Python int."""
        return self.b.mul(a, ir.Constant(I64, n))

    def load(self, address, kind, align=4):
        """The value of LLVM type `kind` at an address, which is a multiple of `align`."""
        value = self.b.load(self.b.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def store(self, value, address):
        """Write a value to an address that is a multiple of 4."""
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer())).align = 4

    def prefetch(self, address):
        """Ask for the line of memory at an address, into the second cache; any address is safe."""
        self.ask("llvm.prefetch.p0", ir.VoidType(), self.b.inttoptr(address, I8.as_pointer()),
                 *(ir.Constant(I32, n) for n in (0, 2, 1)))             # read, near, data

    def all(self, number):
        """A vector with one number in every lane; number: an LLVM value or a Python int."""
        if isinstance(number, int):
            return ir.Constant(self.ints, [number] * self.lanes)
        nothing = ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        one = self.b.insert_element(nothing, number, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, nothing, self.all(0))

    def half(self, address):
        """Load a vector of float16 as float32."""
        return self.b.fpext(self.load(address, self.halves, 2), self.floats)

    def fma(self, a, b, c):
        """a · b + c, which the processor may round once."""
        return self.b.fadd(self.b.fmul(a, b, flags=CONTRACT), c, flags=CONTRACT)

    def loop(self, n, state, body):
        """for i in range(n): state = body(i, state), with n ≥ 1; state: a list of values."""
        b, before = self.b, self.b.block
        inside, after = b.append_basic_block("inside"), b.append_basic_block("after")
        b.branch(inside)
        b.position_at_end(inside)
        i = b.phi(I64)
        i.add_incoming(ir.Constant(I64, 0), before)
        now = [b.phi(value.type) for value in state]
        for phi, value in zip(now, state):
            phi.add_incoming(value, before)
        new = body(i, now)
        following, last = b.add(i, ir.Constant(I64, 1)), b.block
        i.add_incoming(following, last)
        for phi, value in zip(now, new):
            phi.add_incoming(value, last)
        b.cbranch(b.icmp_signed("<", following, n), inside, after)
        b.position_at_end(after)
        return new

    def ask(self, name, kind, *arguments):
        """Call one of LLVM's own functions."""
        wanted = ir.FunctionType(kind, [argument.type for argument in arguments])
        function = self.b.module.globals.get(name) or ir.Function(self.b.module, wanted, name)
        return self.b.call(function, arguments, fastmath=("nnan",) if kind is F32 else ())

    def asm(self, text, constraints, *arguments):
        """One instruction; the result has the type of the first argument."""
        kind = ir.FunctionType(arguments[0].type, [argument.type for argument in arguments])
        return self.b.call(ir.InlineAsm(kind, text, constraints), arguments)
