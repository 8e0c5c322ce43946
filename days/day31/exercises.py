"""Day 31 · Exercises to build; `python -m days check 31` grades them."""

import numpy as np

from llm.functions.heads import multi_head
from llm.layers.rotary import Rotary, angles, rotate_half_split, rotate_interleaved


def convert(w, H):
    """A checkpoint's projection from interleaved to half-split pairs.

    w (C, 3C): makes queries, keys and values (C channels each) of H heads, one head after another;
    it was trained with the interleaved turn. Returns w with its columns reordered so that
    attention with the half-split turn gives the same output. Values are not turned. Do not change
    w itself. A head has D = C/H channels.
    """
    raise NotImplementedError


def angles_by_parts(T, D, trained, base=10000.0):
    """Angles (T, D/2) for T positions of a model trained on `trained` < T: slow hands slowed.

    A hand that made less than one full turn in `trained` positions gets trained/T of its speed, so
    that no angle is new to the model; one that made a turn or more keeps its own. Where
    T ≤ trained nothing is slowed. Source: Peng et al. 2023, section 3.2, with one threshold.
    """
    raise NotImplementedError


def check_convert(f):
    """The same attention in both layouts, for several heads; w stays as it was."""
    for seed, (C, H) in enumerate([(4, 1), (8, 2), (24, 3)]):
        rng = np.random.default_rng(seed)
        w, x = rng.standard_normal((C, 3 * C)), rng.standard_normal((2, 7, C))
        before = w.copy()
        found = f(w, H)
        assert np.array_equal(w, before), "w itself was changed; work on a copy"
        assert found.shape == w.shape, f"expected shape {w.shape}, got {found.shape}"
        expected = multi_head(x @ w, H, Rotary(C // H, 7, interleaved=True))[0]
        got = multi_head(x @ found, H, Rotary(C // H, 7))[0]
        assert np.allclose(got, expected), f"C {C}, H {H}: attention comes out differently"
        assert np.array_equal(found[:, 2 * C:], w[:, 2 * C:]), "values are not turned: leave them"


def check_angles_by_parts(f):
    """Short texts as ever, fast hands as ever, slow ones within the trained range; relative."""
    assert np.allclose(f(16, 8, 32), angles(16, 8)), "a short text needs no slowing"
    assert np.allclose(f(32, 8, 32), angles(32, 8))
    long = f(128, 8, 32, base=500.0)
    assert long.shape == (128, 4), f"expected shape (128, 4), got {long.shape}"
    usual = angles(128, 8, base=500.0)                 # 5.1, 1.08, 0.23 and 0.05 turns in 32
    assert np.allclose(long[:, :2], usual[:, :2]), "a hand that made a turn keeps its speed"
    assert np.allclose(long[:, 2:], usual[:, 2:] / 4), "a slower one gets 32/128 of it"
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 8))
    for turn in (rotate_half_split, rotate_interleaved):
        turned = [turn(np.tile(x, (128, 1)), np.cos(long), np.sin(long)) for x in (q, k)]
        assert np.isclose(turned[0][90] @ turned[1][80], turned[0][20] @ turned[1][10])
