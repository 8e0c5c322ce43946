"""Day 29 · Exercises to build; `python -m days check 29` grades them."""

import math

import numpy as np

from llm.functions.heads import multi_head


def contributions(out, w):
    """What each head adds to the layer's output: the terms of the sum over heads.

    out (B, H, T, D): the heads' answers, not merged; w (H·D, C): the output projection.
    Returns (B, H, T, C), whose sum over H is the projection of the merged answers (without the
    bias). Without a loop over B, H or T. Example: two heads of one channel, one token::

        contributions(np.array([[[[3.0]], [[6.0]]]]), np.array([[1.0, 1.0], [0.0, 2.0]]))
        # [[[[3, 3]], [[0, 12]]]]
    """
    raise NotImplementedError


def prune(qkv_w, qkv_b, project_w, H, keep):
    """Cut heads out of a layer for good, so that it becomes smaller and not only quieter.

    qkv_w (C, 3C), qkv_b (3C,), project_w (C, C): the layer's weights, with H heads; keep: the
    numbers of the heads that stay, each once. Returns (w (C, 3·K·D), b (3·K·D,), p (K·D, C)),
    with K = len(keep): a layer of K heads of the same size D. `multi_head` takes it as it is.
    """
    raise NotImplementedError


def check_contributions(f):
    """The example; random terms one by one against their definition; the sum."""
    found = f(np.array([[[[3.0]], [[6.0]]]]), np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert np.allclose(found, [[[[3, 3]], [[0, 12]]]]), found
    for seed, (B, H, T, D) in enumerate([(2, 3, 4, 2), (1, 1, 3, 4), (2, 2, 2, 2)]):
        rng = np.random.default_rng(seed)
        out, w = rng.normal(size=(B, H, T, D)), rng.normal(size=(H * D, 5))
        found = f(out, w)
        assert found.shape == (B, H, T, 5), f"expected {(B, H, T, 5)}, got {found.shape}"
        for b, h, t in np.ndindex(B, H, T):
            expected = sum(out[b, h, t, d] * w[h * D + d] for d in range(D))
            assert np.allclose(found[b, h, t], expected), f"text {b}, head {h}, token {t}"


def check_prune(f):
    """Each choice of heads against the big layer, head by head in float64, from the definition."""
    H, D, C, T = 3, 2, 6, 5
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(T, C)), rng.normal(size=(C, 3 * C)), rng.normal(size=3 * C)
    p = rng.normal(size=(C, C))
    kept = [array.copy() for array in (w, b, p)]
    terms = []
    for h in range(H):
        q, k, v = ((x @ w + b)[:, j * C + h * D:j * C + (h + 1) * D] for j in range(3))
        scores = np.where(np.tri(T) > 0, np.exp(q @ k.T / math.sqrt(D)), 0)
        terms.append(scores / scores.sum(1, keepdims=True) @ v @ p[h * D:(h + 1) * D])
    for keep in ([0], [1], [2], [0, 2], [2, 1], [0, 1, 2]):
        small, bias, project = f(w, b, p, H, keep)
        K = len(keep)
        shapes = [np.shape(a) for a in (small, bias, project)]
        assert shapes == [(C, 3 * K * D), (3 * K * D,), (K * D, C)], f"keep {keep}: {shapes}"
        found = (multi_head((x @ small + bias)[None], K)[0] @ project)[0]
        assert np.allclose(found, sum(terms[h] for h in keep)), (
            f"keep {keep}: the output is not the sum of those heads' terms")
    assert all(np.array_equal(a, old) for a, old in zip((w, b, p), kept)), "a weight was changed"
