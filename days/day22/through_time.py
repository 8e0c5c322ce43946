"""Day 22 · Gradients through time: Jacobians between states, and what truncation cuts off."""

import numpy as np

from llm.functions import gru as gates
from llm.functions import rnn as plain
from llm.layers.recurrent import GRU


def states_of(model, ids):
    """The first layer's inputs and its states, each (T, C), for one text ids (T,)."""
    x = model.embed(ids[None])
    h = model.layers[0](x, model.start(1)[0])
    return x.data[0], h.data[0]


def jacobian(layer, x, h):
    """∂h_T/∂h_0 (C, C) of a layer that reads x (T, Cin) from the state h (C,).

    Row i is the gradient of number i of the last state: C copies of the text, and each asks for
    one number. So the pair that training uses is also what is measured.
    """
    C = len(h)
    many = np.repeat(x[None], C, axis=0), np.repeat(h[None], C, axis=0)
    weights = [p.data for p in (layer.w, layer.wh, layer.b)]
    if isinstance(layer, GRU):
        out, saved = gates.gru(*many, *weights, layer.bh.data, reset_after=layer.reset_after)
        back = gates.gru_vjp
    else:
        out, saved = plain.rnn(*many, *weights)
        back = plain.rnn_vjp
    dout = np.zeros_like(out)
    dout[:, -1] = np.eye(C, dtype=out.dtype)
    return back(dout, *saved)[1]


def reach(model, texts, distances):
    """For each distance d, how much of a gradient at h_T arrives at h_{T−d}.

    texts (N, T) with T ≥ max(distances). Two numbers each, the median over the texts: the root
    mean square over all directions, ‖J‖_F/√C, and the best direction's, the largest singular value.
    """
    found = []
    for ids in texts:
        x, h = states_of(model, ids)
        rows = []
        for d in distances:
            before = h[-1 - d] if d < len(h) else np.zeros_like(h[0])
            J = jacobian(model.layers[0], x[-d:], before).astype(np.float64)
            values = np.linalg.svd(J, compute_uv=False)
            rows.append([float(np.sqrt((values**2).mean())), float(values[0])])
        found.append(rows)
    return np.median(found, axis=0).tolist()


def gradient(model, ids, targets, length):
    """∂loss/∂(all recurrent parameters) of (B, T) tokens, the gradient cut every `length` tokens.

    Forward nothing changes, since the state is carried. length = T: the whole gradient.
    Returns one float64 vector.
    """
    model.zero_grad()
    states, T = None, ids.shape[1]
    for at in range(0, T, length):
        part = slice(at, at + length)
        loss, states = model.loss(ids[:, part], targets[:, part], states)
        (loss * (targets[:, part].shape[1] / T)).backward()
    parameters = model.layers[0].named_parameters()
    return np.concatenate([p.grad.astype(np.float64).ravel() for p in parameters.values()])


def truncated(model, ids, targets, lengths):
    """[(length, cosine with the whole gradient, its length over the whole one's)]."""
    whole = gradient(model, ids, targets, ids.shape[1])
    rows = []
    for length in lengths:
        cut = gradient(model, ids, targets, length)
        norms = np.linalg.norm(cut), np.linalg.norm(whole)
        rows.append([length, float(cut @ whole / (norms[0] * norms[1])),
                     float(norms[0] / norms[1])])
    return rows


def update_gate(model, texts):
    """Of a GRU's update gate u over texts (N, T): [mean, 90 % quantile, share of the variance that
    lies between the numbers of the state and not over time, largest mean of one number].
    """
    layer = model.layers[0]
    x = model.embed(texts).data
    weights = [p.data for p in (layer.w, layer.wh, layer.b, layer.bh)]
    _, saved = gates.gru(x, model.start(len(texts))[0], *weights, reset_after=layer.reset_after)
    u = saved[5].astype(np.float64)                              # (N, T, C)
    each = u.mean(axis=(0, 1))
    return [float(v) for v in (u.mean(), np.quantile(u, .9), each.var() / u.var(), each.max())]
