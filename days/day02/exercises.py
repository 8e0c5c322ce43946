"""Day 02 · Build: a norm that survives huge numbers, and directions at right angles."""

import math

import numpy as np


def safe_norm(u):
    """The norm of a plain Python list, without overflow or underflow on the way.

    √(Σ x²) fails for [3e200, 4e200], whose squares are infinite, though the answer is 5e200; and
    for [3e-200, 4e-200], whose squares are 0. An empty list or all zeros give 0.0. ::

        safe_norm([3, 4])            ->  5.0
        safe_norm([3e200, 4e200])    ->  5e+200

    No `math.hypot` and no NumPy: find the one division that does it.
    """
    raise NotImplementedError


def gram_schmidt(vectors):
    """Unit vectors at right angles to each other that span what `vectors` (lists of N) span.

    Take the vectors one after another; from each remove its projections on the directions found so
    far; what is left, divided by its norm, is the next direction. Drop a vector of which less than
    1e-9 of its own norm is left: it was a mixture of earlier ones. ::

        gram_schmidt([[2, 0], [3, 4]])           ->  [[1, 0], [0, 1]]
        gram_schmidt([[1, 1], [2, 2], [0, 3]])   ->  two directions, not three
    """
    raise NotImplementedError


def check_safe_norm(f):
    assert f([3, 4]) == 5 and f([]) == 0 and f([0.0, 0.0]) == 0, "small examples first"
    assert math.isclose(f([3e200, 4e200]), 5e200), "the squares overflow"
    assert math.isclose(f([3e-200, -4e-200]), 5e-200), "the squares underflow to 0"
    assert math.isclose(f([-7]), 7), "the norm of [-7] is 7"
    rng = np.random.default_rng(0)
    for _ in range(200):
        u = (rng.standard_normal(rng.integers(1, 9)) * 10.0 ** rng.integers(-250, 250)).tolist()
        assert math.isclose(f(u), math.hypot(*u), rel_tol=1e-12), f"wrong for {u}"


def check_gram_schmidt(f):
    assert np.allclose(f([[2, 0], [3, 4]]), np.eye(2)), "the example of the docstring"
    assert len(f([[1, 1], [2, 2], [0, 3]])) == 2, "a multiple of an earlier vector must go"
    assert len(f([[0, 0], [0, 5]])) == 1, "a zero vector has no direction"
    rng = np.random.default_rng(1)
    for _ in range(100):
        n = int(rng.integers(1, 7))
        x = rng.standard_normal((rng.integers(1, 8), n))
        q = np.array(f(x.tolist()))
        assert q.shape == (min(x.shape), n), f"{x.shape} gave {q.shape}"
        assert np.allclose(q @ q.T, np.eye(len(q)), atol=1e-8), "not unit length or not normal"
        assert np.allclose(x @ q.T @ q, x, atol=1e-7), "does not span the vectors"
