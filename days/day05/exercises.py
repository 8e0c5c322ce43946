"""Day 05 · Build: Shannon's way to write without a table, and where a chain settles."""

import numpy as np


def shannon_walk(ids, order, n, prompt, rng):
    """Write `n` tokens as Shannon did in 1948, with the book itself and no counts at all.

    ids: (T,) the book; prompt: (order,) a context of it; n: how many tokens. For each new token,
    pick one place at random, all equally likely, among the places where the last `order` tokens
    stand followed by something, and copy what follows. Returns (n,) ids without the prompt; stop
    early only if there is no such place. Example::

        shannon_walk(np.array([0, 1, 2]), 1, 5, np.array([0]), rng)  →  [1, 2]
    """
    raise NotImplementedError


def stationary(matrix):
    """The distribution that one step of the chain leaves as it is: π with π P = π, Σ π = 1.

    matrix: (V, V), rows sum to 1, every token reachable from every other. Returns (V,) float64.
    Example::

        stationary(np.array([[.5, .5], [1, 0]]))  →  [2/3, 1/3]
    """
    raise NotImplementedError


def check_shannon_walk(f):
    """The example, only transitions of the book, and their shares."""
    out = f(np.array([0, 1, 2]), 1, 5, np.array([0]), np.random.default_rng(0))
    assert list(out) == [1, 2], f"the book ends after 2, so [1, 2] was expected, got {list(out)}"
    ids = np.random.default_rng(1).integers(0, 3, 60)
    runs = {tuple(ids[t:t + 3]) for t in range(58)}
    said = np.concatenate([ids[:2], f(ids, 2, 200, ids[:2], np.random.default_rng(2))])
    assert all(tuple(said[t:t + 3]) in runs for t in range(len(said) - 2)), "not in the book"
    ids = np.array([0, 1, 0, 1, 0, 1, 0, 2, 0])      # after 0: 1 three times in four
    said = np.asarray(f(ids, 1, 4000, np.array([0]), np.random.default_rng(3)))
    share = (said == 1).sum() / (said != 0).sum()
    assert abs(share - 0.75) < 0.05, f"after 0 comes 1 in 3 of 4 places, you gave {share:.2f}"
    assert len(f(ids, 0, 10, np.array([], int), np.random.default_rng(4))) == 10, "order 0"


def check_stationary(f):
    """The example, then chains of random sizes, one that alternates, and a text made a ring."""
    np.testing.assert_allclose(f(np.array([[.5, .5], [1, 0]])), [2 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(f(np.array([[0., 1], [1, 0]])), [.5, .5], atol=1e-9)
    rng = np.random.default_rng(0)
    for v in (1, 2, 5, 30):
        p = rng.dirichlet(np.ones(v), size=v)
        pi = f(p)
        np.testing.assert_allclose(pi @ p, pi, atol=1e-9)
        assert abs(pi.sum() - 1) < 1e-9, "it should sum to 1"
    ring = np.append(rng.integers(0, 4, 300), 0)
    ring[0] = 0                                       # ends where it begins
    counts = np.zeros((4, 4))
    np.add.at(counts, (ring[:-1], ring[1:]), 1)
    np.testing.assert_allclose(f(counts / counts.sum(axis=1, keepdims=True)),
                               np.bincount(ring[1:], minlength=4) / 300, atol=1e-9)
