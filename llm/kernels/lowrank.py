"""Day 54 · Twins of functions/lowrank.py and functions/chunked.py.

The large products stay BLAS's. A product with r = 8 in the middle is not worth a library call that
writes an array of its own: `add_product` adds it to what is there, in one pass over memory. The
softmax of a chunk of logits becomes its gradient in place. Left out: biases of frozen layers
without an adapter.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.threads import share

ROWS, COLUMNS = 32, 256


@njit(fastmath=True, error_model="numpy")
def add_row(y, h, b, start):
    """y (n,) += h (r,) b, of whose rows the n numbers from `start` on are used."""
    r, end = len(h), start + len(y)
    for k in range(0, r - 3, 4):
        h0, h1, h2, h3 = h[k], h[k + 1], h[k + 2], h[k + 3]
        b0, b1, b2, b3 = (b[k, start:end], b[k + 1, start:end], b[k + 2, start:end],
                          b[k + 3, start:end])
        for j in range(len(y)):
            y[j] += (h0 * b0[j] + h1 * b1[j]) + (h2 * b2[j] + h3 * b3[j])
    for k in range(r - r % 4, r):
        for j in range(len(y)):
            y[j] += h[k] * b[k, start + j]


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def add_product(y, h, b, ends):
    """y (N, M) += h_p b in the columns of part p, which ends at ends[p]; h (N, P·r), b (r, M).

    Four rows of b at a time, so that y is read and written once for four products. COLUMNS of b,
    8 kB at r = 8, stay in the nearest cache for ROWS rows of y; whole rows of b would not.
    """
    N, r = y.shape[0], b.shape[0]
    for chunk in prange((N + ROWS - 1) // ROWS):
        low = 0
        for p in range(ends.size):
            for start in range(low, ends[p], COLUMNS):
                end = min(start + COLUMNS, ends[p])
                for i in range(chunk * ROWS, min(chunk * ROWS + ROWS, N)):
                    add_row(y[i, start:end], h[i, p * r:p * r + r], b, start)
            low = ends[p]


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def softmax_grad_rows(logits, ids, factor, loss):
    """loss (n,) ← −log softmax at ids; logits (n, V) ← factor · (softmax − one-hot)."""
    for i in prange(logits.shape[0]):
        row = logits[i]
        top = row[0]
        for j in range(row.size):
            top = max(top, row[j])
        right = row[ids[i]] - top
        total = np.float32(0)
        for j in range(row.size):
            row[j] = exp32(row[j] - top)
            total += row[j]
        for j in range(row.size):
            row[j] *= factor / total
        row[ids[i]] -= factor
        loss[i] = np.log(total) - right


def matrix(weight):
    """As in functions/lowrank.py."""
    return weight() if callable(weight) else weight


def add(y, h, b, widths):
    """y (N, M) += h b, part by part; all float32."""
    share(y.size * len(b))
    add_product(y, h, b, np.cumsum(widths))


def frozen_linear(x, weight, bias=None):
    """The twin of functions.lowrank.frozen_linear, float32, for layers without bias."""
    w = matrix(weight)
    if bias is not None or x.ndim < 1 or w.ndim != 2 or x.shape[-1] != len(w):
        return NotImplemented
    return (x.reshape(-1, len(w)) @ w).reshape(*x.shape[:-1], w.shape[1]), (weight,)


def frozen_linear_vjp(dout, weight):
    """dx alone."""
    w = matrix(weight)
    return (dout.reshape(-1, w.shape[1]) @ w.T).reshape(*dout.shape[:-1], len(w)), None, None


def lora(x, a, b, weight, bias=None, *, scale, widths):
    """The twin of functions.lowrank.lora, float32; the same is saved, x A already scaled."""
    w = matrix(weight)
    r = len(b)
    if (w.ndim != 2 or a.shape != (len(w), len(widths) * r) or b.shape[1:] != w.shape[1:]
            or x.shape[-1:] != (len(w),) or sum(widths) != w.shape[1] or min(widths) < 1
            or bias is not None and bias.shape != w.shape[1:]):
        return NotImplemented                                 # the reference says what is wrong
    rows = x.reshape(-1, len(w))
    y, h = rows @ w, np.float32(scale) * (rows @ a)
    if bias is not None:
        y += bias
    add(y, h, b, widths)
    return y.reshape(*x.shape[:-1], w.shape[1]), (x, a, b, weight, h, np.float32(scale), widths)


def lora_vjp(dout, x, a, b, weight, h, scale, widths):
    """dx, dA, dB; h holds s · x A."""
    w, r = matrix(weight), len(b)
    rows, inputs = dout.reshape(-1, w.shape[1]), x.reshape(-1, len(w))
    g, db, low = np.empty_like(h), np.empty_like(b), 0
    for p, width in enumerate(widths):
        here, part = slice(low, low + width), slice(p * r, (p + 1) * r)
        np.matmul(rows[:, here], b[:, here].T, out=g[:, part])
        np.matmul(h[:, part].T, rows[:, here], out=db[:, here])
        low += width
    g *= scale
    dx = rows @ w.T
    add(dx, g, np.ascontiguousarray(a.T), dx.shape[1:])
    return dx.reshape(x.shape), inputs.T @ g, db, None, None


def softmax_grad(logits, ids, factor):
    """The twin of functions.chunked.softmax_grad, float32."""
    loss = np.empty(len(logits), np.float32)
    share(4 * logits.size)                                            # an exp each
    softmax_grad_rows(logits, ids.astype(np.int64), np.float32(factor), loss)
    return loss.sum(dtype=np.float64)
