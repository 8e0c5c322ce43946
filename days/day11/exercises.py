"""Day 11 · Build: windows for the first tokens too, and a first layer made of lookups."""

import numpy as np

from llm.functions.dense import linear, tanh
from llm.models.window import init, logits


def padded_windows(ids, context, pad):
    """A window for every token, also the first ones: ids (L,) → (L, T) and the targets (L,).

    What lies before the text is the token `pad`. Example::

        padded_windows([3, 1, 4], 2, 0)  →  [[0, 0], [0, 3], [3, 1]], [3, 1, 4]
    """
    raise NotImplementedError


def fuse(table, w1):
    """The embedding and the first layer as one table a position: → (T, V, hidden).

    table (V, C), w1 (T·C, hidden). With f = fuse(table, w1), the sum over t of f[t, ids[t]] must
    equal the first product of the window model, concat(table[ids]) @ w1. Example, C = hidden = 1::

        fuse([[1], [2]], [[10], [100]])  →  [[[10], [20]], [[100], [200]]]
    """
    raise NotImplementedError


def check_padded_windows(f):
    """The example, then each window against a slice of the padded text."""
    contexts, targets = f(np.array([3, 1, 4]), 2, 0)
    assert np.asarray(contexts).tolist() == [[0, 0], [0, 3], [3, 1]], f"got {contexts}"
    assert np.asarray(targets).tolist() == [3, 1, 4], f"got {targets}"
    ids = np.random.default_rng(0).integers(0, 9, 20)
    for context in (1, 5, 30):
        contexts, targets = f(ids, context, 9)
        assert contexts.shape == (20, context), f"expected (20, {context}), got {contexts.shape}"
        long = [9] * context + ids.tolist()
        assert contexts.tolist() == [long[i:i + context] for i in range(20)]
        assert targets.tolist() == ids.tolist()


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
