"""Day 11 · Build: a longer window with the same answers, and a first layer made of lookups."""

import numpy as np

from llm.functions.dense import linear, tanh
from llm.models.window import init, logits, shapes


def lengthen(parameters, extra):
    """The parameters of a model with `extra` more tokens of context and the same answers.

    parameters: a dict as `init` makes it, for windows of T tokens. Returns a new dict for windows
    of T + extra; the old one stays as it is. With new = lengthen(p, 2) and any ids (T + 2,)::

        logits(new, ids)  equals  logits(p, ids[2:])

    so the model can go on learning where it stood.
    """
    raise NotImplementedError


def fuse(table, w1):
    """The embedding and the first layer as one table a position: → (T, V, hidden).

    table (V, C), w1 (T·C, hidden). With f = fuse(table, w1), the sum over t of f[t, ids[t]] must
    equal the first product of the window model, concat(table[ids]) @ w1. Example, C = hidden = 1::

        fuse([[1], [2]], [[10], [100]])  →  [[[10], [20]], [[100], [200]]]
    """
    raise NotImplementedError


def check_lengthen(f):
    """The same logits whatever the older tokens are, shapes, dtype, and an untouched original."""
    for context, extra, dtype in ((1, 1, np.float32), (3, 2, np.float64)):
        rng = np.random.default_rng(context)
        p = init(7, context, 4, 5, rng, dtype=dtype)
        kept = {name: array.copy() for name, array in p.items()}
        new = f(p, extra)
        assert {n: a.shape for n, a in new.items()} == shapes(7, context + extra, 4, 5)
        assert all(a.dtype == dtype for a in new.values())
        ids = rng.integers(0, 7, (20, context + extra))
        np.testing.assert_allclose(logits(new, ids), logits(p, ids[:, extra:]), atol=1e-6)
        assert all((p[name] == kept[name]).all() for name in p), "the old parameters were changed"


def check_fuse(f):
    """The example, then the window model's logits from lookups alone."""
    small = f(np.array([[1.], [2]]), np.array([[10.], [100]]))
    assert np.asarray(small).tolist() == [[[10], [20]], [[100], [200]]], f"got {small}"
    rng = np.random.default_rng(1)
    p = init(6, 3, 4, 5, rng, dtype=np.float64)
    fused = f(p["table"], p["w1"])
    assert fused.shape == (3, 6, 5), f"expected (3, 6, 5), got {fused.shape}"
    ids = rng.integers(0, 6, (10, 3))
    h = tanh(sum(fused[t, ids[:, t]] for t in range(3)) + p["b1"])
    np.testing.assert_allclose(linear(h, p["w2"], p["b2"]), logits(p, ids), atol=1e-12)
