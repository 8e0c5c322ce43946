"""Day 53 · Exercises to build; `python -m days check 53` grades them."""

import numpy as np

from llm.tune.packing import fill


def equal_weights(targets, index):
    """Weights (B, T) float64 that make every packed example count the same, however long it is.

    targets (B, T), −100 where nothing is asked; index (N, S) as `packed_batches` gives it: the
    positions b·T + t of each example, −1 after its end. A target's weight is 1 / (N · targets of
    its example), so all weights add up to 1; where nothing is asked it is 0. Example::

        equal_weights(np.array([[-100, 5, 6, -100, 7]]), np.array([[0, 1, 2], [3, 4, -1]]))
        # [[0, 0.25, 0.25, 0, 0.5]]
    """
    raise NotImplementedError


def fill_tightly(lengths, T):
    """Rows of at most T tokens as `fill` makes them, but in as few rows as first-fit decreasing.

    Take the longest example first, then the next one; among equals the one that came first. Raises
    ValueError for an example that is longer than T. Example::

        fill_tightly([3, 3, 5, 5], 8)            # [[2, 0], [3, 1]]
    """
    raise NotImplementedError


def check_equal_weights(f):
    """The example, random batches, and sums of weights by example."""
    got = f(np.array([[-100, 5, 6, -100, 7]]), np.array([[0, 1, 2], [3, 4, -1]]))
    assert np.allclose(got, [[0, 0.25, 0.25, 0, 0.5]]), got
    rng = np.random.default_rng(0)
    for _ in range(20):
        B, T = rng.integers(1, 4), 20
        targets, index = np.full((B, T), -100), []
        for b in range(B):
            start = 0
            while start + 5 <= T:
                size = int(rng.integers(2, 6))
                first = start + int(rng.integers(0, size))
                targets[b, first:start + size] = rng.integers(0, 9, start + size - first)
                index.append([b * T + start + t if t < size else -1 for t in range(5)])
                start += size
        weights = f(targets, np.array(index))
        assert weights.shape == targets.shape and np.isclose(weights.sum(), 1)
        assert not weights[targets == -100].any(), "only targets count"
        for where in index:
            mine = weights.reshape(-1)[[i for i in where if i >= 0]]
            assert np.isclose(mine.sum(), 1 / len(index)), "each example counts the same"
            assert len(set(np.round(mine[mine > 0], 12))) == 1, "and each of its targets"


def check_fill_tightly(f):
    """The example, valid rows, and never more of them than first fit in that order."""
    assert f([3, 3, 5, 5], 8) == [[2, 0], [3, 1]]
    assert f([], 8) == []
    rng = np.random.default_rng(0)
    saved = 0
    for _ in range(20):
        lengths = rng.integers(1, 65, 60).tolist()
        rows = f(lengths, 128)
        assert sorted(i for row in rows for i in row) == list(range(60)), "each example once"
        assert all(sum(lengths[i] for i in row) <= 128 for row in rows), "a row is too long"
        order = sorted(range(60), key=lambda i: -lengths[i])
        assert len(rows) == len(fill(lengths, 128, order)), "longest first"
        saved += len(fill(lengths, 128)) - len(rows)
    assert saved > 0, "it should need fewer rows than examples as they come"
    try:
        f([9], 8)
    except ValueError:
        return
    raise AssertionError("an example longer than the row should raise ValueError")
