"""Day 14 · Backward by hand: the vector–Jacobian product of each operation, beside its forward.

Each operation is a pair. `f(...)` returns `(out, saved)`, where `saved` is exactly what its
backward needs; `f_vjp(dout, *saved)` returns one gradient per array argument of `f`, with that
argument's shape, and None where there is none (ids, targets). Nothing is remembered elsewhere.

For y = f(x) and a loss that is a function of y, `dout` is ∂loss/∂y, with y's shape, and the VJP is
dx[i] = Σ_j dout[j] · ∂y[j]/∂x[i]. The Jacobian itself is never formed.

Left out: second derivatives, and a tape that calls these in the right order (day 15).
"""

import numpy as np

from llm.functions import dense
from llm.functions import embedding as table_lookup
from llm.functions.probability import log_softmax
from llm.functions.probability import softmax as softmax_of
from llm.functions.sums import total


def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an array of `shape` was broadcast.

    Broadcasting copies one number to many places; each copy sends back its gradient.
    """
    if grad.shape == tuple(shape):
        return grad
    extra = grad.ndim - len(shape)
    stretched = [extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1]
    return total(grad, axis=(*range(extra), *stretched), keepdims=True).reshape(shape)


def add(a, b):
    """a + b, broadcast."""
    return a + b, (np.shape(a), np.shape(b))


def add_vjp(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(dout, b_shape)


def sub(a, b):
    """a − b, broadcast."""
    return a - b, (np.shape(a), np.shape(b))


def sub_vjp(dout, a_shape, b_shape):
    return unbroadcast(dout, a_shape), unbroadcast(-dout, b_shape)


def mul(a, b):
    """a · b elementwise, broadcast."""
    return a * b, (a, b)


def mul_vjp(dout, a, b):
    return unbroadcast(dout * b, np.shape(a)), unbroadcast(dout * a, np.shape(b))


def div(a, b):
    """a / b elementwise, broadcast."""
    out = a / b
    return out, (a, b, out)


def div_vjp(dout, a, b, out):
    da = dout / b
    return unbroadcast(da, np.shape(a)), unbroadcast(-da * out, np.shape(b))


def matmul(a, b):
    """a (..., N, K) @ b (..., K, M) -> (..., N, M); leading axes broadcast.

    Raises ValueError with both shapes where they do not fit.
    """
    if np.ndim(a) < 2 or np.ndim(b) < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"cannot multiply {np.shape(a)} by {np.shape(b)}: "
                         "wanted (..., N, K) @ (..., K, M)")
    return a @ b, (a, b)


def matmul_vjp(dout, a, b):
    """da = dout bᵀ and db = aᵀ dout: each again a matmul of 2·N·K·M FLOPs."""
    da = dout @ b.swapaxes(-1, -2)
    db = a.swapaxes(-1, -2) @ dout
    return unbroadcast(da, a.shape), unbroadcast(db, b.shape)


def linear(x, w, b=None):
    """x (..., Cin) @ w (Cin, Cout) + b (Cout,) -> (..., Cout)."""
    return dense.linear(x, w, b), (x, w, b is not None)


def linear_vjp(dout, x, w, has_bias):
    rows = dout.reshape(-1, dout.shape[-1])                       # (N, Cout), N = all leading axes
    dx = (rows @ w.T).reshape(x.shape)
    dw = x.reshape(-1, x.shape[-1]).T @ rows                      # (Cin, Cout)
    return dx, dw, total(rows, axis=0) if has_bias else None


def embedding(table, ids):
    """table (V, C), ids (...) -> (..., C)."""
    return table_lookup.embedding(table, ids), (ids, table.shape)


def embedding_vjp(dout, ids, shape):
    """A row used twice gets both gradients: add.at accumulates, `dtable[ids] += …` would not."""
    dtable = np.zeros(shape, dout.dtype)
    np.add.at(dtable, ids, dout)
    return dtable, None


def relu(x):
    out = dense.relu(x)
    return out, (out,)                # out > 0 where x > 0, and the next layer keeps out anyway


def relu_vjp(dout, out):
    return (np.where(out > 0, dout, 0).astype(dout.dtype, copy=False),)    # 0 also for an infinity


def tanh(x):
    out = dense.tanh(x)
    return out, (out,)


def tanh_vjp(dout, out):
    return (dout * (1 - out * out),)


def sigmoid(x):
    out = dense.sigmoid(x)
    return out, (out,)


def sigmoid_vjp(dout, out):
    return (dout * out * (1 - out),)


def silu(x):
    return dense.silu(x), (x,)


def silu_vjp(dout, x):
    s = dense.sigmoid(x)
    return (dout * s * (1 + x * (1 - s)),)


def gelu(x):
    """The tanh form of day 10: ½x(1 + tanh u), u = √(2/π)(x + 0.044715x³)."""
    return dense.gelu(x), (x,)


def gelu_vjp(dout, x):
    x = np.clip(x, -dense.FAR, dense.FAR)    # beyond, the slope is 0 or 1 and x² may overflow
    square = x * x
    t = np.tanh(dense.GELU_SLOPE * x * (1 + dense.GELU_CUBIC * square))
    slope = dense.GELU_SLOPE * (1 + 3 * dense.GELU_CUBIC * square)       # du/dx
    return (dout * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope),)


def softmax(x):
    """Softmax over the last axis."""
    out = softmax_of(x)
    return out, (out,)


def softmax_vjp(dout, p):
    """J = diag(p) − ppᵀ is symmetric, so the VJP is p ⊙ (dout − ⟨dout, p⟩)."""
    return (p * (dout - (dout * p).sum(axis=-1, keepdims=True)),)


def cross_entropy(logits, targets, ignore=-100):
    """Mean −log softmax(logits)[target] in nats, over targets that are not `ignore`; 0 if none.

    logits (..., V), targets (...). Raises ValueError where they do not fit, as on day 07.
    """
    kept = targets != ignore
    chosen = np.where(kept, targets, 0)[..., None]                # (..., 1)
    if (logits.shape[:-1] != targets.shape or targets.dtype.kind not in "iu"
            or (chosen < 0).any() or (chosen >= logits.shape[-1]).any()):
        raise ValueError(f"cross_entropy: logits {logits.shape} need targets {logits.shape[:-1]} "
                         f"of integers below {logits.shape[-1]} (or {ignore}: ignored), not "
                         f"{targets.dtype} {targets.shape} up to {chosen.max(initial=0)}")
    logp = log_softmax(logits)
    picked = np.where(kept, np.take_along_axis(logp, chosen, -1)[..., 0], 0)
    count = max(int(kept.sum()), 1)
    loss = -picked.sum(dtype=np.float64) / count
    return np.asarray(loss, logits.dtype), (logp, chosen, kept, count)


def cross_entropy_vjp(dout, logp, chosen, kept, count):
    """(p − one-hot(target)) / count for rows that count, 0 for the others (day 09)."""
    dlogits = np.exp(logp)
    np.put_along_axis(dlogits, chosen, np.take_along_axis(dlogits, chosen, -1) - 1, -1)
    dlogits *= np.asarray(dout / count, logp.dtype)
    dlogits[~kept] = 0                      # not · 0: an ignored row may hold NaN or ∞
    return dlogits, None
