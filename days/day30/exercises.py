"""Day 30 · Exercises to build; `python -m days check 30` grades them."""

import math

import numpy as np

from llm.layers.positions import sinusoids


def shift_matrix(channels, shift):
    """The matrix M (C, C), float64, that moves every sinusoid row by `shift` positions.

    For all t: sinusoids(t + shift) = M @ sinusoids(t), as columns. shift may be negative; C is
    even. The order of channels is that of `sinusoids`: sine, cosine, sine, cosine, …
    """
    raise NotImplementedError


def buckets(T, n, most):
    """T5's relative positions: which of n learned biases a score gets, by distance. (T, T) int64.

    Query t and key s ≤ t are d = t − s apart. The first n/2 distances have a bucket each; those
    beyond share the other half, on a logarithmic scale that ends at `most`:
    n/2 + ⌊log(d / (n/2)) / log(most / (n/2)) · n/2⌋, and never more than n − 1. Keys after the
    query (s > t), which the mask hides, get bucket 0. n is even. Source: Raffel et al. (2020).
    """
    raise NotImplementedError


def check_shift_matrix(f):
    """Many rows, both directions, and that two shifts make one."""
    for channels, shift in ((2, 1), (8, 3), (16, -5), (64, 100)):
        m = f(channels, shift)
        assert np.shape(m) == (channels, channels), np.shape(m)
        rows = sinusoids(300, channels, np.float64)
        moved = rows[100:200] @ np.asarray(m).T
        assert np.allclose(moved, rows[100 + shift:200 + shift]), f"C {channels}, shift {shift}"
    assert np.allclose(f(6, 2) @ f(6, 5), f(6, 7)), "a shift by 2 and by 5 is one by 7"


def check_buckets(f):
    """The numbers of T5's defaults, then every distance against the definition."""
    found = np.asarray(f(200, 32, 128))
    assert found.shape == (200, 200) and found.dtype.kind == "i", (found.shape, found.dtype)
    assert found[15, :16].tolist() == list(range(15, -1, -1)), "the first 16 distances are exact"
    assert [int(found[199, 199 - d]) for d in (16, 31, 64, 127, 128, 199)] == [
        16, 21, 26, 31, 31, 31], [int(found[199, 199 - d]) for d in (16, 31, 64, 127, 128, 199)]
    assert (found[np.triu_indices(200, 1)] == 0).all(), "keys after the query get bucket 0"
    small = f(50, 8, 20)
    for d in range(50):
        wanted = d if d < 4 else min(4 + math.floor(math.log(d / 4) / math.log(5) * 4), 7)
        assert small[49, 49 - d] == wanted, (d, small[49, 49 - d], wanted)
