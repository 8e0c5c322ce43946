"""Day 22 · The plain recurrent layer h ← tanh(x W + h Wh + b) over a whole sequence, with its VJP.

The GRU's control: what is measured there about gradients through time is measured here, too.
Left out: other activations, several layers, both directions.
"""

import numpy as np


def rnn(x, h0, w, wh, b):
    """x (B, T, Cin), h0 (B, C) -> the states after each token, (B, T, C).

    w (Cin, C), wh (C, C), b (C,). 2·C·(Cin + C) FLOPs a token, T products one after another.
    Raises ValueError naming the shapes. Source: Elman (1990).
    """
    check_shapes("rnn", x, h0, w, wh, 1, b=b)
    (B, T, cin), C = x.shape, h0.shape[1]
    a = (x.reshape(B * T, cin) @ w + b).reshape(B, T, C)         # all the inputs in one product
    out, h = np.empty_like(a), h0
    for t in range(T):
        out[:, t] = h = np.tanh(a[:, t] + h @ wh)
    return out, (x, h0, w, wh, out)


def rnn_vjp(dout, x, h0, w, wh, out):
    """dx, dh0, dw, dwh, db: from the last token to the first (backpropagation through time)."""
    B, T, C = out.shape
    da, dh = np.empty_like(out), np.zeros_like(h0)
    for t in reversed(range(T)):
        da[:, t] = (dout[:, t] + dh) * (1 - out[:, t] ** 2)
        dh = da[:, t] @ wh.T
    flat = da.reshape(B * T, C)
    dw = x.reshape(B * T, x.shape[2]).T @ flat
    dwh = shifted(h0, out).reshape(B * T, C).T @ flat
    return (flat @ w.T).reshape(x.shape), dh, dw, dwh, flat.sum(axis=0)


def shifted(h0, out):
    """The state before each token: h0 (B, C) and out (B, T, C) without its last -> (B, T, C)."""
    return np.concatenate([h0[:, None], out], axis=1)[:, :-1]


def check_shapes(name, x, h0, w, wh, gates, **biases):
    """ValueError unless all fit: `gates` blocks of C columns in w and wh; biases as in `rnn`."""
    if np.ndim(x) != 3 or np.ndim(h0) != 2:
        raise ValueError(f"{name}: x {np.shape(x)} must be (B, T, Cin) and h0 {np.shape(h0)} "
                         "(B, C); add the batch axis with x[None]")
    (B, _, cin), C = np.shape(x), np.shape(h0)[1]
    wanted = {"h0": (B, C), "w": (cin, gates * C), "wh": (C, gates * C),
              "b": (gates * C,), "bh": (C,)}
    for part, array in {"h0": h0, "w": w, "wh": wh, **biases}.items():
        if np.shape(array) != wanted[part]:
            raise ValueError(f"{name}: {part} {np.shape(array)} does not fit x {np.shape(x)} and "
                             f"h0 {np.shape(h0)}; it must be {wanted[part]}")
