"""Day 54 · Twins of functions/lowrank.py and functions/chunked.py.

The large products stay BLAS's. A product with r = 8 in the middle is not worth a library call that
writes an array of its own: `add_product` adds it to what is there, in one pass over memory. The
softmax of a chunk of logits becomes its gradient in place.
"""

import numpy as np
from numba import njit, prange

from llm.kernels.elementwise import exp32
from llm.kernels.threads import share


@njit(fastmath=True, parallel=True, error_model="numpy", cache=True)
def add_product(y, h, b, ends):
    """y (N, M) += h_p b in the columns of part p, which ends at ends[p]; h (N, P·r), b (r, M).

    Four rows of b at a time: y is read and written once for four products, not for each.
    """
    r = b.shape[0]
    for i in prange(y.shape[0]):
        low = 0
        for p in range(ends.size):
            first = p * r
            for k in range(0, r - 3, 4):
                f0, f1 = h[i, first + k], h[i, first + k + 1]
                f2, f3 = h[i, first + k + 2], h[i, first + k + 3]
                for j in range(low, ends[p]):
                    y[i, j] += (f0 * b[k, j] + f1 * b[k + 1, j]) + (
                        f2 * b[k + 2, j] + f3 * b[k + 3, j])
            for k in range(r - r % 4, r):
                factor = h[i, first + k]
                for j in range(low, ends[p]):
                    y[i, j] += factor * b[k, j]
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
