"""Day 62 · Tensor parallelism: every rank has a part of each matrix, and all have all rows.

    divide(model, comm)                     # on every rank, of equal models; then train as ever

The first matrix of each half block is cut by columns and the second by rows, so that between them
nobody needs another rank's numbers. Two operators hold all the communication: `enter` does nothing
on the way forward and sums gradients on the way back; `leave` sums on the way forward and does
nothing on the way back. Every rank has the same bits in the stream between the half blocks, so
norms, embedding and biases of the second matrices stay equal without a message.

Left out: a divided vocabulary, dropout inside the branches, and sequence parallelism (the note).
Source: Shoeybi et al. 2019, arXiv 1909.08053, section 3 (their f and g are enter and leave).
"""

import numpy as np

from llm.grad import ops
from llm.grad.tensor import primitive
from llm.layers.module import Module, parameter
from llm.scale.allreduce import all_gather, ring_allreduce


def enter(x, comm):
    """Forward: x as it is, since every rank has all of it."""
    return x, (comm,)


def enter_vjp(dout, comm):
    """Each rank's columns send back a part of the gradient of x; the whole is their sum."""
    return (ring_allreduce(comm, np.array(dout, order="C")),)


def leave(x, comm):
    """Forward: each rank's rows made a part of the output; the whole is their sum."""
    return ring_allreduce(comm, np.array(x, order="C")), (comm,)


def leave_vjp(dout, comm):
    """y = Σ yᵣ, so the gradient of each yᵣ is that of y."""
    return (dout,)


entering, leaving = primitive(enter, enter_vjp), primitive(leave, leave_vjp)


class ColumnParallel(Module):
    """x (..., Cin), the same on all ranks -> this rank's columns of x W + b: (..., Cout/p).

    parts: W may be several matrices side by side (queries, keys, values: 3); each is cut by
    itself. Raises ValueError where the columns cannot be divided evenly.
    """

    def __init__(self, linear, comm, parts=1):
        self.comm, self.parts = comm, parts
        columns = linear.w.shape[1]
        if columns % (parts * comm.size):
            raise ValueError(f"{comm.size} ranks cannot divide {columns} columns in {parts} parts")
        self.w = parameter(self.cut(linear.w.data))
        self.b = None if linear.b is None else parameter(self.cut(linear.b.data))

    def __call__(self, x):
        return ops.linear(entering(x, comm=self.comm), self.w, self.b)

    def cut(self, array):
        """(..., Cout) -> (..., Cout/p): this rank's share of each part."""
        by_rank = array.reshape(*array.shape[:-1], self.parts, self.comm.size, -1)
        return by_rank[..., self.comm.rank, :].reshape(*array.shape[:-1], -1).copy()

    def whole(self, name, array):
        """The array of which all ranks have cut theirs."""
        shares = collect(self.comm, array)                        # (p, ..., Cout/p)
        split = shares.reshape(*shares.shape[:-1], self.parts, -1)
        return np.moveaxis(split, 0, -2).reshape(*array.shape[:-1], -1)


class RowParallel(Module):
    """x (..., Cin/p), other channels on each rank -> x W + b (..., Cout), the same on all.

    The bias is added after the sum; before it, it would be added p times. Raises ValueError where
    the rows cannot be divided evenly.
    """

    def __init__(self, linear, comm):
        self.comm, rows = comm, linear.w.shape[0]
        if rows % comm.size:
            raise ValueError(f"{comm.size} ranks cannot divide {rows} rows evenly")
        mine = slice(comm.rank * rows // comm.size, (comm.rank + 1) * rows // comm.size)
        self.w = parameter(linear.w.data[mine].copy())
        self.b = None if linear.b is None else parameter(linear.b.data.copy())

    def __call__(self, x):
        y = leaving(ops.linear(x, self.w, None), comm=self.comm)
        return y if self.b is None else y + self.b

    def whole(self, name, array):
        """Rows below each other; the bias is whole already."""
        return array if name == "b" else collect(self.comm, array).reshape(-1, array.shape[1])


def collect(comm, array):
    """(...) of each rank -> (p, ...), in the order of the ranks."""
    out = np.empty((comm.size, *array.shape), array.dtype)
    out[comm.rank] = array
    return all_gather(comm, out)


def divide(model, comm):
    """Replace the linears of a GPT's blocks by this rank's share of them, in place.

    Heads are dealt out whole, H/p to a rank. Raises ValueError, before anything changes, where the
    ranks do not divide the heads or the width of the feed-forward evenly.
    """
    for i, block in enumerate(model.blocks):
        H, width = block.mix.inner.H, block.think.inner.up.w.shape[1]
        if H % comm.size or width % comm.size:
            raise ValueError(f"{comm.size} ranks cannot divide {H} heads and {width} channels of "
                             f"block {i} evenly")
    for i, block in enumerate(model.blocks):
        mix, think = f"blocks.{i}.mix.inner", f"blocks.{i}.think.inner"
        model.replace(f"{mix}.qkv", ColumnParallel(block.mix.inner.qkv, comm, parts=3))
        model.replace(f"{mix}.project", RowParallel(block.mix.inner.project, comm))
        model.replace(f"{think}.up", ColumnParallel(block.think.inner.up, comm))
        model.replace(f"{think}.down", RowParallel(block.think.inner.down, comm))
        block.mix.inner.H //= comm.size
    return model


def divided(name):
    """Is the parameter of this name in a divided GPT another one on each rank?"""
    return name.endswith((".qkv.w", ".qkv.b", ".up.w", ".up.b", ".project.w", ".down.w"))


def whole_state(model, comm):
    """{path: array} of the model that was divided. All ranks must call it, for they all send."""
    state = {}
    for path, array in model.state_dict().items():
        place, _, name = path.rpartition(".")
        module = model.get(place)
        state[path] = module.whole(name, array) if hasattr(module, "whole") else array
    return state


def traffic(config, B, p, itemsize=4):
    """Bytes that one rank sends in a step: an all-reduce of (B, T, C) forward and one backward in
    each half block, 4L in all. A ring's share of each is 2(p−1)/p."""
    return 4 * config.L * 2 * (p - 1) * itemsize * B * config.T * config.C // p
