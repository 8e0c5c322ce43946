"""Day 49 · Exercises to build; `python -m days check 49` grades them."""

import tracemalloc

import numpy as np

from days.day49.pooling import sizes
from llm.functions.heads import multi_head
from llm.layers.rotary import Rotary


def shared_attention(q, k, v):
    """Causal grouped attention that never copies a key: q (B, H, T, D), k and v (B, K, T, D).

    Returns (B, H, T, D), query head h meeting key head h // (H / K); scores are divided by √D.
    Nothing of the size of H heads of keys may be made besides the result. Example, one token::

        shared_attention(q, k, v)      # T = 1: v, each head repeated H / K times
    """
    raise NotImplementedError


def agree(w, H, to):
    """Turn the keys of each group towards its first head, without changing the model.

    w (C, 3·H·D): the `qkv` of a multi-head, rotary model; neighbouring heads form `to` groups.
    Returns a new w. A rotary pair (i, i + D/2) of a head's keys may be turned by any one angle if
    the same pair of its queries is turned as well: all such turns commute with the rotary ones, so
    every score stays as it was. For each pair choose the angle that makes the head's two columns
    agree best with those of the first head of its group (the largest sum of products). Values stay
    as they are. Afterwards the mean of a group of two heads is at least as long as before.
    """
    raise NotImplementedError


def check_shared_attention(f):
    """Against day 29's attention on repeated heads, and by the memory it takes."""
    rng = np.random.default_rng(0)
    for B, H, K, T, D in ((1, 2, 1, 1, 3), (2, 6, 3, 5, 4), (3, 4, 4, 7, 2), (2, 8, 2, 3, 1)):
        q = rng.standard_normal((B, H, T, D))
        k, v = rng.standard_normal((2, B, K, T, D))
        wide = np.concatenate([part.transpose(0, 2, 1, 3).reshape(B, T, H * D) for part in (
            q, np.repeat(k, H // K, axis=1), np.repeat(v, H // K, axis=1))], axis=-1)
        expected = multi_head(wide, H)[0].reshape(B, T, H, D).transpose(0, 2, 1, 3)
        found = f(q, k, v)
        assert np.shape(found) == (B, H, T, D), f"shape {np.shape(found)}"
        assert np.allclose(found, expected), f"H = {H}, K = {K}, T = {T}"
    q, (k, v) = rng.standard_normal((1, 16, 8, 512)), rng.standard_normal((2, 1, 1, 8, 512))
    tracemalloc.start()
    f(q, k, v)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * q.nbytes, f"{peak / q.nbytes:.1f} times the result: are keys repeated?"


def check_agree(f):
    """The same attention for any x, the same values, and keys that agree better."""
    rng = np.random.default_rng(1)
    for C, H, to, D in ((6, 4, 2, 4), (9, 4, 1, 6), (5, 2, 2, 2)):
        w, x = rng.standard_normal((C, 3 * H * D)), rng.standard_normal((2, 7, C))
        kept, new, rule = w.copy(), f(w, H, to), Rotary(D, 7, base=20.0)
        assert (w == kept).all(), "the array that is given must not change"
        assert np.allclose(multi_head(x @ new, H, rule)[0], multi_head(x @ w, H, rule)[0])
        assert (new[:, 2 * H * D:] == w[:, 2 * H * D:]).all(), "values stay as they are"
        before, after = (sizes({"qkv.w": a}, H, to)[0] for a in (w, new))
        if H // to == 2:
            assert after >= before, f"a group's mean was {before:.3f} long, now {after:.3f}"
    turned = w = rng.standard_normal((8, 3 * 2 * 4))
    keys = w[:, 8:16].reshape(8, 2, 4)
    keys[:, 1, [0, 1]], keys[:, 1, [2, 3]] = -keys[:, 0, [2, 3]], keys[:, 0, [0, 1]]
    turned = f(w, 2, 1)                       # head 1 is head 0, turned by a right angle
    assert np.allclose(turned[:, 8:12], turned[:, 12:16]), "equal up to a turn, but not found"
