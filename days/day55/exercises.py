"""Day 55 · Exercises to build; `python -m days check 55` grades them."""

import numpy as np

from llm.functions.heads import multi_head
from llm.functions.probability import softmax


def merged_adapter(w, b, down, down_bias, up, up_bias):
    """One linear layer for a linear layer and an adapter *without* its GELU behind it.

    y = x w + b, then y + (y down + down_bias) up + up_bias. w (Cin, C), b (C,), down (C, m),
    down_bias (m,), up (m, C), up_bias (C,); returns (w', b') with x w' + b' the same for every x.
    Example: w = [[1]], b = [2], down = [[3]], down_bias = [4], up = [[5]], up_bias = [6] gives
    w' = [[16]], b' = [58].
    """
    raise NotImplementedError


def gated_prefix(qkv, keys, values, gate, H):
    """Attention with a prefix that starts as attention without one, to the bit.

    The text attends as ever. Each query attends to the prefix in a softmax of its own, and that
    answer times tanh(gate[h]) is added. qkv (B, T, 3C), no position rule; keys and values (P, C);
    gate (H,), a number for each head -> (B, T, C).
    Source: Zhang et al. (2023), LLaMA-Adapter, section 3.2, for the idea.
    """
    raise NotImplementedError


def check_merged_adapter(f):
    """The example, and random shapes."""
    w, b = f(*(np.array(x, float) for x in ([[1]], [2], [[3]], [4], [[5]], [6])))
    assert w.tolist() == [[16]] and b.tolist() == [58], f"w' {w}, b' {b}"
    rng = np.random.default_rng(0)
    for cin, C, m in ((1, 1, 1), (3, 5, 2), (6, 4, 7)):
        parts = [rng.standard_normal(s) for s in ((cin, C), (C,), (C, m), (m,), (m, C), (C,))]
        w, b, down, down_bias, up, up_bias = parts
        given = [part.copy() for part in parts]
        x = rng.standard_normal((9, cin))
        y = x @ w + b
        expected = y + (y @ down + down_bias) @ up + up_bias
        new_w, new_b = f(*parts)
        assert new_w.shape == w.shape and new_b.shape == b.shape, "shapes"
        assert np.allclose(x @ new_w + new_b, expected), f"Cin {cin}, C {C}, m {m}"
        assert all((p == g).all() for p, g in zip(parts, given)), "the given arrays changed"


def check_gated_prefix(f):
    """Gate 0 is day 29 to the bit; else loops over heads and tokens say what it is."""
    rng = np.random.default_rng(0)
    for B, T, H, D, P in ((1, 1, 1, 2, 1), (2, 5, 3, 4, 2)):
        C = H * D
        qkv = rng.standard_normal((B, T, 3 * C)).astype(np.float32)
        keys, values = rng.standard_normal((2, P, C)).astype(np.float32)
        alone = multi_head(qkv, H=H)[0]
        start = f(qkv, keys, values, np.zeros(H, np.float32), H)
        assert start.dtype == np.float32 and (start == alone).all(), "gate 0 must change no bit"
        gate = rng.standard_normal(H).astype(np.float32)
        found = f(qkv, keys, values, gate, H)
        for b in range(B):
            for t in range(T):
                for h in range(H):
                    part = slice(h * D, (h + 1) * D)
                    q = qkv[b, t, part]
                    weights = softmax(keys[:, part] @ q / np.sqrt(D))
                    expected = alone[b, t, part] + np.tanh(gate[h]) * weights @ values[:, part]
                    assert np.allclose(found[b, t, part], expected, atol=1e-5), f"head {h}"
