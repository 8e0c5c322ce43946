"""Day 50 · Exercises to build; `python -m days check 50` grades them."""

import numpy as np

from llm.functions.causal import causal_attention_rows


def window_attention(q, k, v, window, tile=4):
    """Causal attention in which token t sees the tokens t − window + 1 … t only, tile by tile.

    q, k (T, D), v (T, Dv), window ≥ 1 -> (T, Dv). A tile of keys that no query of the tile of
    queries may see, because it lies in the future *or too far back*, must not be visited: the
    checker fills what nobody may touch with NaN. Example: with window = 1 the output is v.
    Source: Beltagy and others (2020), section 3.1.
    """
    raise NotImplementedError


def attend_in_parts(q, k, v, parts):
    """What one new token hears from its cache, when several workers share the keys.

    q (D,), k (T, D), v (T, Dv), parts ≥ 1 -> (Dv,): softmax(k q/√D) v. Cut the T keys into `parts`
    pieces, as equal as possible (some are empty if parts > T), make a summary of each without
    looking at the others, and merge neighbours pairwise, as in a knockout tournament, until one is
    left. Long texts are decoded so: one query alone has no other work to share out.
    """
    raise NotImplementedError


def check_window_attention(f):
    """Against every token's own window, over tiles that fit and that do not; far tiles are NaN."""
    rng = np.random.default_rng(0)
    for T in (1, 5, 8, 13):
        q, k, v = (rng.standard_normal((T, D)) for D in (3, 3, 2))
        for window in (1, 2, 3, 6, 20):
            exact = np.array([causal_attention_rows(*(x[max(0, t - window + 1):t + 1]
                                                      for x in (q, k, v)))[-1] for t in range(T)])
            for tile in (1, 3, 4, 16):
                out = f(q, k, v, window, tile)
                assert out.shape == exact.shape and np.allclose(out, exact), (
                    f"T {T}, window {window}, tiles of {tile}")
    q, k, v = (rng.standard_normal((40, 3)) for _ in range(3))
    exact = f(q, k, v, 5, 4)
    k[:28], v[:28] = np.nan, np.nan                        # queries 36 … 39 see 32 … 39
    assert np.allclose(f(q, k, v, 5, 4)[36:], exact[36:]), "a tile too far back was visited"


def check_attend_in_parts(f):
    """Any number of parts gives the same, also with scores of ±1,000."""
    rng = np.random.default_rng(1)
    for T, size in ((1, 1), (7, 1), (30, 1000)):
        q, k, v = size * rng.standard_normal(4), rng.standard_normal((T, 4)), rng.standard_normal(
            (T, 2))
        scores = k @ q / 2
        weights = np.exp(scores - scores.max())
        exact = weights @ v / weights.sum()
        for parts in (1, 2, 3, 4, 5, 7, 8, 31):
            with np.errstate(all="raise", under="ignore"):
                out = f(q, k, v, parts)
            assert out.shape == exact.shape and np.allclose(out, exact), f"T {T}, {parts} parts"
