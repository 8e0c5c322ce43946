"""Day 43 · Calling a compiled function by its address, and arrays at addresses.

The engine compiles its step once, for every format: which `rows` multiplies by a matrix stands in
a table of addresses. A call through an address costs a few nanoseconds, a matrix takes tens of
microseconds. It rests on two of Numba's inner interfaces, `get_compile_result` and `call_conv`,
that its own first-class functions use too.
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES, FLOATS = types.Array(types.uint8, 1, "C"), types.Array(types.float32, 1, "C")
ROWS = types.void(BYTES, FLOATS, BYTES, FLOATS, types.int64, types.int64, types.int64)
PREPARE = types.void(FLOATS, BYTES)


def address(function, signature):
    """Where the machine code of a compiled function is, for this signature. Compiles it if needed.

    The function must outlive the address. Raises TypeError on what Numba did not compile, or
    cannot compile for these types.
    """
    if not hasattr(function, "get_compile_result"):
        raise TypeError(f"{function!r} is not compiled: put @njit on it")
    compiled = function.get_compile_result(signature)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def caller(signature):
    """An intrinsic (address, *arguments): calls what is at the address, with Numba's convention."""
    @intrinsic
    def call(typingctx, where, arguments):
        def codegen(context, builder, _, values):
            convention = context.call_conv
            kind = convention.get_function_type(signature.return_type, signature.args)
            pointer = builder.inttoptr(values[0], kind.as_pointer())
            parts = cgutils.unpack_tuple(builder, values[1], len(signature.args))
            convention.call_function(builder, pointer, signature.return_type, signature.args,
                                     parts)
            return context.get_dummy_value()
        return types.void(types.int64, types.Tuple(signature.args)), codegen
    return call


call_rows, call_prepare = caller(ROWS), caller(PREPARE)


@intrinsic
def pointer(typingctx, where):
    """An address as a pointer that `carray` takes."""
    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())
    return types.voidptr(types.int64), codegen


@njit
def bytes_at(where, size):
    """The `size` bytes at an address as a uint8 array; nobody keeps them alive but the caller."""
    return carray(pointer(where), (size,), np.uint8)
