"""Day 38 · A hashed n-gram memory: what followed these last tokens, learned by gradient.

For each order m the last m tokens are hashed to one of R rows of C numbers. The rows of all orders
are added to the stream before the last norm, so the head reads them as it reads the network. Rows
start at zero and are trained by row-wise Adagrad: one sum of squares a row, and only rows that
were read are touched, so a step costs the same however many rows there are.

Facts after Engram (arXiv 2601.07372) and Over-Tokenized Transformer (arXiv 2501.16975). Left out:
gates, several hashes an order, and any remedy for runs that share a row.
"""

import numpy as np
from numba import njit, prange

from llm.grad.tensor import Tensor

MULTIPLY = np.uint64(0x9E3779B97F4A7C15)       # 2⁶⁴ divided by the golden ratio, an odd number


def hashed(ids, orders, rows):
    """ids (N,) -> (N, len(orders)) int32: the row for the last m tokens at each position.

    `rows` is a power of two; position t looks at ids[t − m + 1 … t], with zeros before the text.
    """
    ids = np.asarray(ids, np.uint64) + np.uint64(1)
    bits = np.uint64(64 - int(rows).bit_length() + 1)
    if rows < 2 or rows & (rows - 1):
        raise ValueError(f"{rows} rows: wanted a power of two, at least 2")
    out = np.empty((len(ids), len(orders)), np.int32)
    code = np.zeros(len(ids), np.uint64)
    for back in range(max(orders)):
        code[back:] += ids[:len(ids) - back]
        code *= MULTIPLY
        code ^= code >> np.uint64(29)
        if back + 1 in orders:
            out[:, orders.index(back + 1)] = (code * MULTIPLY) >> bits
    return out


class Memory:
    """Rows of C numbers for each of several orders, and their sums of squared gradients."""

    def __init__(self, orders, rows, C, eps=1e-12):
        self.table = np.zeros((len(orders), rows, C), np.float32)
        self.squares = np.full((len(orders), rows), eps, np.float32)
        self.read_at, self.out, self.eps = None, None, eps

    def forget(self):
        """Begin anew: all rows are zero, as at the start."""
        self.table[:], self.squares[:] = 0, self.eps

    def read(self, at):
        """at (B, T, orders) -> Tensor (B, T, C), a leaf: after `backward` its grad is the rows'."""
        B, T, O = at.shape
        self.read_at = at.reshape(-1, O)
        out = np.empty((B, T, self.table.shape[2]), np.float32)
        add_rows(self.table, self.read_at, out.reshape(B * T, -1))
        self.out = Tensor(out, requires_grad=True)
        return self.out

    def step(self, rate):
        """Update the rows read last, from the gradient that has arrived."""
        if self.out is not None and self.out.grad is not None:
            g = np.ascontiguousarray(self.out.grad, np.float32).reshape(len(self.read_at), -1)
            adagrad_rows(self.table, self.squares, self.read_at, g, np.float32(rate))
        self.out = None


@njit(parallel=True, error_model="numpy", cache=True)
def add_rows(table, at, out):
    """out (M, C) ← Σ over orders of table[order, at[:, order]]."""
    for m in prange(len(at)):
        out[m] = 0
        for o in range(at.shape[1]):
            row = table[o, at[m, o]]
            for c in range(row.size):
                out[m, c] += row[c]


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def adagrad_rows(table, squares, at, grad, rate):
    """Orders in parallel, places one after another, so two places never write a row at once.

    s ← s + mean g²,   row ← row − rate · g / √s: a row read twice in a batch moves twice.
    """
    M, C = grad.shape
    for o in prange(at.shape[1]):
        for m in range(M):
            total = np.float32(0)
            for c in range(C):
                total += grad[m, c] * grad[m, c]
            i = at[m, o]
            squares[o, i] += total / C
            step = rate / np.sqrt(squares[o, i])
            for c in range(C):
                table[o, i, c] -= step * grad[m, c]
