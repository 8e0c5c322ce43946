"""Day 28 · Exercises to build; `python -m days check 28` grades them."""

import numpy as np

from llm.functions.attention import attention


def sliding_window(T, width):
    """Booleans (T, T): token t sees itself and the width − 1 tokens before it, nothing else.

    T ≥ 0 and width ≥ 1. Without a loop over T. Example::

        sliding_window(3, 2)    # [[1, 0, 0], [1, 1, 0], [0, 1, 1]] as booleans
    """
    raise NotImplementedError


def packed_mask(documents):
    """The mask of several documents packed into one row: causal, and only inside one's own.

    documents (B, T): integers, equal for tokens of the same document of a row; a document is one
    contiguous run. Returns booleans (B, T, T). Without a loop over B or T. Example::

        packed_mask(np.array([[7, 7, 8]]))    # [[[1, 0, 0], [1, 1, 0], [0, 0, 1]]] as booleans
    """
    raise NotImplementedError


def check_sliding_window(f):
    """The example, every size against the definition, and that each token sees itself."""
    assert f(3, 2).astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]], f(3, 2)
    for T in (0, 1, 4, 9):
        for width in (1, 2, 5, 20):
            found = f(T, width)
            assert found.shape == (T, T) and found.dtype == bool, (found.shape, found.dtype)
            for t in range(T):
                expected = [t - width < s <= t for s in range(T)]
                assert found[t].tolist() == expected, f"row {t} of T {T}, width {width}"


def check_packed_mask(f):
    """The example, then: attention over packed documents equals attention over each alone."""
    assert f(np.array([[7, 7, 8]])).astype(int).tolist() == [[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]
    rng = np.random.default_rng(0)
    lengths = [[3, 1, 4], [2, 5, 1]]
    documents = np.array([np.repeat([0, 1, 2], row) for row in lengths])
    q, k, v = rng.normal(size=(3, 2, 8, 4))
    visible = f(documents)
    assert visible.shape == (2, 8, 8) and visible.dtype == bool, (visible.shape, visible.dtype)
    packed = attention(q, k, v, visible)[0]
    for b, row in enumerate(lengths):
        for end, length in zip(np.cumsum(row), row):
            own = slice(end - length, end)
            alone = attention(q[b, own], k[b, own], v[b, own], np.tri(length, dtype=bool))[0]
            assert np.allclose(packed[b, own], alone), "a document sees another, or its future"
