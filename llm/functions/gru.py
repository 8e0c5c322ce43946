"""Day 22 · The gated recurrent unit over a whole sequence, with backpropagation through time.

One primitive for all T tokens: the tape holds one record, not ten for every token. The three
blocks of columns of w, wh and b belong to the reset gate r, the update gate u and the candidate n,
in this order. Left out: dropout between tokens, padding, both directions, the LSTM.
"""

import numpy as np

from llm.functions.dense import sigmoid
from llm.functions.rnn import check_shapes, shifted


def gru(x, h0, w, wh, b, bh, reset_after=True):
    """x (B, T, Cin), h0 (B, C) -> the states after each token, (B, T, C).

    w (Cin, 3C) reads the input, wh (C, 3C) the state; b (3C,), and bh (C,) beside wh's product
    for the candidate. With h the state before a token,

        r, u = σ(x W + h Wh + b)                        how much of h to read, how much to keep
        n    = tanh(x W + b + r ⊙ (h Wh + bh))          reset after the product (as PyTorch), or
        n    = tanh(x W + b + (r ⊙ h) Wh + bh)          before it (as published)
        h    = u ⊙ h + (1 − u) ⊙ n

    6·C·(Cin + C) FLOPs a token. Saves r, u, n, q = h Wh + bh or (r ⊙ h) Wh + bh, and the states.
    Raises ValueError naming the shapes. Source: Cho et al. (2014), eq. 5 to 8.
    """
    check_shapes("gru", x, h0, w, wh, 3, b=b, bh=bh)
    (B, T, cin), C = x.shape, h0.shape[1]
    a = (x.reshape(B * T, cin) @ w + b).reshape(B, T, 3 * C)      # all the inputs in one product
    r, u, n, q, out = (np.empty((B, T, C), a.dtype) for _ in range(5))
    h = h0
    for t in range(T):
        if reset_after:
            m = h @ wh                                           # (B, 3C)
            gates = sigmoid(a[:, t, :2 * C] + m[:, :2 * C])
            r[:, t], u[:, t] = gates[:, :C], gates[:, C:]
            q[:, t] = m[:, 2 * C:] + bh
            n[:, t] = np.tanh(a[:, t, 2 * C:] + r[:, t] * q[:, t])
        else:
            gates = sigmoid(a[:, t, :2 * C] + h @ wh[:, :2 * C])
            r[:, t], u[:, t] = gates[:, :C], gates[:, C:]
            q[:, t] = (r[:, t] * h) @ wh[:, 2 * C:] + bh
            n[:, t] = np.tanh(a[:, t, 2 * C:] + q[:, t])
        out[:, t] = h = n[:, t] + u[:, t] * (h - n[:, t])
    return out, (x, h0, w, wh, r, u, n, q, out, reset_after)


def gru_vjp(dout, x, h0, w, wh, r, u, n, q, out, reset_after):
    """dout (B, T, C) -> dx, dh0, dw, dwh, db, dbh: from the last token to the first.

    dh holds ∂loss/∂h of the state at hand: what its own output adds, and what later tokens send.
    """
    B, T, C = out.shape
    before = shifted(h0, out)                                    # (B, T, C)
    da = np.empty((B, T, 3 * C), out.dtype)                      # before σ, σ, tanh
    dm = np.empty_like(da)                                       # at the products with wh
    dh = np.zeros_like(h0)
    for t in reversed(range(T)):
        dh = dh + dout[:, t]
        dn = dh * (1 - u[:, t]) * (1 - n[:, t] ** 2)
        du = dh * (before[:, t] - n[:, t]) * u[:, t] * (1 - u[:, t])
        dh = dh * u[:, t]                                        # the highway
        if reset_after:
            dq, dr = dn * r[:, t], dn * q[:, t]
        else:
            dq, drh = dn, dn @ wh[:, 2 * C:].T
            dr = drh * before[:, t]
            dh += drh * r[:, t]
        dr = dr * r[:, t] * (1 - r[:, t])
        da[:, t] = np.concatenate([dr, du, dn], axis=1)
        dm[:, t] = np.concatenate([dr, du, dq], axis=1)
        through = slice(None) if reset_after else slice(2 * C)
        dh += dm[:, t, through] @ wh[:, through].T
    return collect(da, dm, dh, before, x, w, r, reset_after)


def collect(da, dm, dh, before, x, w, r, reset_after):
    """The gradients of the parameters and inputs: four products over all B·T tokens at once."""
    B, T, C = before.shape
    flat, gates = da.reshape(B * T, 3 * C), dm.reshape(B * T, 3 * C)
    dw = x.reshape(B * T, x.shape[2]).T @ flat
    dwh = before.reshape(B * T, C).T @ gates
    if not reset_after:
        dwh[:, 2 * C:] = (r * before).reshape(B * T, C).T @ gates[:, 2 * C:]
    dx = (flat @ w.T).reshape(x.shape)
    return dx, dh, dw, dwh, flat.sum(axis=0), gates[:, 2 * C:].sum(axis=0)
