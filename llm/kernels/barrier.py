"""Day 43 · A team of threads inside one parallel region: a roll call, and a barrier of nanoseconds.

Starting a parallel region costs microseconds, and a token has 150 phases in which all must wait
for all. So one region spans the token, and between phases the threads wait by reading one number
until it is large enough. Threads that the machine does not give at once are not waited for: the
team is whoever answers the roll call. What the team cannot cure is a member that loses its core
in the middle; the others then give theirs up too (sched_yield), and the engine, which watches the
time, goes on with one thread for a while.

`sync` is an int64 array of zeros, WORDS long: each word that threads write stands in a line of
the cache of its own. Left out: trees of barriers, which pay from some dozens of threads on.
"""

import platform

from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic

JOINED, TEAM, ARRIVED = 0, 8, 16                    # words of `sync`, 64 bytes apart
WORDS = 24
CLOSED = 1 << 62                                    # a bit of JOINED: too late
LINE = 64                                           # bytes of the cache that come together
MOST = 62                                           # threads: the bits below it
PATIENCE = 4000                                     # pauses (about 40 to 200 µs), then yield

CALLS = {"x86_64": "pause", "AMD64": "pause", "aarch64": "yield", "arm64": "yield"}
CLOCKS = {"x86_64": "rdtsc", "AMD64": "rdtsc", "aarch64": "arm", "arm64": "arm"}


def instruction(builder, text, kind, constraint):
    """One instruction of the processor, written out; the compiler must not move memory past it."""
    binding.initialize_native_asmparser()
    return builder.asm(ir.FunctionType(kind, []), text, constraint, [], True)


def word(context, builder, signature, values):
    """The LLVM pointer to sync[i]; values: the array, then i."""
    array = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(array.data, [values[1]])


@intrinsic
def fetch_add(typingctx, sync, i, n):
    """sync[i] += n in one step that no thread can come between; returns what was there before."""
    def codegen(context, builder, signature, values):
        return builder.atomic_rmw("add", word(context, builder, signature, values), values[2],
                                  "acq_rel")
    return types.int64(sync, types.int64, types.int64), codegen


@intrinsic
def fetch_or(typingctx, sync, i, bits):
    """sync[i] |= bits, likewise."""
    def codegen(context, builder, signature, values):
        return builder.atomic_rmw("or", word(context, builder, signature, values), values[2],
                                  "acq_rel")
    return types.int64(sync, types.int64, types.int64), codegen


@intrinsic
def load(typingctx, sync, i):
    """sync[i] as it is now; all that another thread wrote before it wrote this is visible too."""
    def codegen(context, builder, signature, values):
        return builder.load_atomic(word(context, builder, signature, values), "acquire", 8)
    return types.int64(sync, types.int64), codegen


@intrinsic
def store(typingctx, sync, i, n):
    """sync[i] = n, after everything that this thread wrote before."""
    def codegen(context, builder, signature, values):
        builder.store_atomic(values[2], word(context, builder, signature, values), "release", 8)
        return context.get_dummy_value()
    return types.void(sync, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a waiting loop: it saves power, and leaves the loop at once."""
    def codegen(context, builder, signature, values):
        if platform.machine() in CALLS:
            instruction(builder, CALLS[platform.machine()], ir.VoidType(), "~{memory}")
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def fetch(typingctx, where):
    """Begin to bring the cache line at an address into this core's second cache. Harmless."""
    def codegen(context, builder, signature, values):
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        name = "llvm.prefetch.p0i8"
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]), name)
        builder.call(function, [builder.inttoptr(values[0], byte), *(i32(n) for n in (0, 2, 1))])
        return context.get_dummy_value()
    return types.void(types.int64), codegen


@intrinsic
def give_way(typingctx):
    """sched_yield: let another thread have this core, if one wants it. Nothing on Windows."""
    def codegen(context, builder, signature, values):
        if binding.address_of_symbol("sched_yield"):
            kind = ir.FunctionType(ir.IntType(32), [])
            function = builder.module.globals.get("sched_yield") or ir.Function(
                builder.module, kind, "sched_yield")
            builder.call(function, [])
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def ticks(typingctx):
    """The core's clock, in units of its own (compare two readings); 0 where there is none."""
    def codegen(context, builder, signature, values):
        kind, long = CLOCKS.get(platform.machine()), ir.IntType(64)
        if kind == "rdtsc":
            name = "llvm.readcyclecounter"
            function = builder.module.globals.get(name) or ir.Function(
                builder.module, ir.FunctionType(long, []), name)
            return builder.call(function, [])
        if kind == "arm":
            return instruction(builder, "mrs $0, cntvct_el0", long, "=r")
        return ir.Constant(long, 0)
    return types.int64(), codegen


@njit
def members(bits):
    """How many bits are set."""
    n = 0
    while bits:
        bits &= bits - 1
        n += 1
    return n


@njit(cache=True)
def roll_call(sync, thread, threads):
    """Find out who takes part. Returns (rank, size of the team), or (−1, 0): come too late.

    Each of up to MOST threads sets its bit. When all are there, or one has waited too long, the
    call is closed, and the threads whose bits are set by then are the team; ranks keep the order
    of threads, so a thread reads the same rows of a matrix token after token.
    """
    mine, everyone = 1 << thread, (1 << threads) - 1
    before = fetch_or(sync, JOINED, mine)
    if before & CLOSED:
        return -1, 0
    if before | mine == everyone:
        store(sync, TEAM, everyone)
    spins = 0
    while load(sync, TEAM) == 0:
        spins += 1
        if spins == PATIENCE:
            before = fetch_or(sync, JOINED, CLOSED)
            if not before & CLOSED:
                store(sync, TEAM, before)
        elif spins > PATIENCE:
            give_way()
        pause()
    team = load(sync, TEAM)
    return members(team & (mine - 1)), members(team)


@njit
def meet(sync, target, ahead, size):
    """Say that this thread is done, and wait until `target` have said so, in all phases together.

    Phase p of a team of n has the target n·(p + 1): nothing needs to be set back in between.
    While it waits, a thread reads ahead: the `size` bytes at the address `ahead` are what it will
    want next, and the memory would otherwise be idle.
    """
    done = fetch_add(sync, ARRIVED, 1) + 1 >= target
    line, end = ahead, ahead + size
    while line < end and not done:
        fetch(line)
        line += LINE
        done = load(sync, ARRIVED) >= target
    spins = 0
    while not done:
        pause()
        spins += 1
        if spins > PATIENCE:
            give_way()
        done = load(sync, ARRIVED) >= target
