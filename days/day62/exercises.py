"""Day 62 · Exercises to build; `python -m days check 62` grades them."""

import itertools

import numpy as np

from llm.scale.comm import run_ranks
from llm.scale.link import Metered


def parallel_cross_entropy(comm, logits, targets):
    """The loss of each row where every rank has only its share of the vocabulary.

    logits (n, V/p): this rank's columns, those of the ids rank·V/p … (rank+1)·V/p − 1. targets
    (n,): ids of the whole vocabulary. Returns (n,): log Σ exp − the target's logit, the same bits
    on all ranks. Logits may be in the thousands. What is sent must not grow with V: at most 4·p·n
    numbers by each rank.

    Example, 2 ranks, V = 2: logits [[0.0]] on both and target [1] give [log 2] on both.
    """
    raise NotImplementedError


def balanced(costs, p):
    """Cut layers into p stages of neighbours so that the slowest stage is as fast as possible.

    costs: seconds of each layer, at least p of them. Returns p slices in order, none empty, which
    cover all layers. Raises ValueError, with both numbers in the message, for more stages than
    layers. Example: balanced([3, 1, 1, 1], 2) -> [slice(0, 1), slice(1, 4)].
    """
    raise NotImplementedError


def check_parallel_cross_entropy(f):
    """Against the whole matrix, with large logits, for few bytes."""
    rng = np.random.default_rng(0)
    for p, n, V in ((1, 3, 5), (2, 1, 2), (2, 7, 200), (4, 5, 400)):
        for size in (1.0, 3000.0):
            logits, targets = size * rng.standard_normal((n, V)), rng.integers(V, size=n)
            top = logits.max(1)
            wanted = (top + np.log(np.exp(logits - top[:, None]).sum(1))
                      - logits[np.arange(n), targets])

            def work(comm):
                metered, share = Metered(comm), V // p  # noqa: B023
                part = logits[:, comm.rank * share:(comm.rank + 1) * share].copy()  # noqa: B023
                return f(metered, part, targets), metered.bytes  # noqa: B023
            out = run_ranks(p, work, patience=5)
            for loss, sent in out:
                assert loss.shape == (n,), f"one loss a row, not {loss.shape}"
                assert np.allclose(loss, wanted, rtol=1e-12), f"{p} ranks, logits of {size:g}"
                assert loss.tobytes() == out[0][0].tobytes(), "other bits on some rank"
                assert sent <= 4 * p * n * 8, f"{sent} bytes sent: too many"


def check_balanced(f):
    """Against trying all cuts."""
    rng = np.random.default_rng(0)
    for L, p in ((1, 1), (4, 2), (6, 3), (7, 7), (9, 4)):
        for _ in range(5):
            costs = rng.integers(1, 9, size=L).tolist()
            parts = f(costs, p)
            flat = [i for part in parts for i in range(L)[part]]
            assert flat == list(range(L)) and len(parts) == p, f"{parts} do not cover {L} layers"
            assert all(range(L)[part] for part in parts), "a stage has no layer"
            best = min(max(sum(costs[a:b]) for a, b in zip((0, *cuts), (*cuts, L)))
                       for cuts in itertools.combinations(range(1, L), p - 1))
            slowest = max(sum(costs[part]) for part in parts)
            assert slowest == best, f"{costs} in {p}: {slowest}, and {best} is possible"
    try:
        f([1, 2], 3)
    except ValueError as error:
        assert "2" in str(error) and "3" in str(error), "say how many of each"
    else:
        raise AssertionError("3 stages of 2 layers: raise ValueError")
