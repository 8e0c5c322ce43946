"""Day 45 · Exercises to build; `python -m days check 45` grades them."""

import itertools

import numpy as np

from llm.quantize.gptq import damped, gptq, hessian, layer_error
from llm.quantize.int4 import grids, quantise


def best_rounding(w, H, scale, minimum, bits):
    """The q (K,) uint8 with the smallest error ½ dᵀHd of all, for one output w (K,), K small.

    scale, minimum: the grid, two numbers; weight k becomes scale · q[k] + minimum. There are
    2^(bits · K) candidates, and trying them all is allowed. GPTQ tries one. Example::

        best_rounding([0.4, 0.4], [[1, .9], [.9, 1]], 1.0, 0.0, 1)      # [0, 1] or [1, 0]
    """
    raise NotImplementedError


def shrink_groups(w, H, group, bits, factors):
    """Clipping, which AWQ also searches: a narrower grid rounds most weights more finely.

    For each factor f of `factors`, each group's grid goes from f · min to f · max of its weights;
    weights outside go to its ends. w (K, N); H (K, K) is the inputs' Hessian. For each output n
    and each group, take the factor with the smallest error ½ dᵀHd of that group's weights alone,
    H cut to the group; of equal ones the first. Returns the dense matrix (K, N), float32.
    Scales need not be rounded to float16 here: scale = f · (max − min) / (2^bits − 1).
    """
    raise NotImplementedError


def check_best_rounding(f):
    """Against a search of its own; and GPTQ is never better, often equal."""
    found = f([0.4, 0.4], np.array([[1, 0.9], [0.9, 1]]), 1.0, 0.0, 1)
    assert list(found) in ([0, 1], [1, 0]), f"the example gives {list(found)}"
    equal = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        K, bits = (5, 2) if seed % 2 else (9, 1)
        x = rng.standard_normal((50, K)) @ rng.standard_normal((K, K))
        w, H = rng.standard_normal((K, 1)).astype(np.float32), damped(hessian(x))
        scale, minimum = grids(w, K, bits)
        d = lambda q: scale[0, 0] * np.asarray(q, float) + minimum[0, 0] - w[:, 0]  # noqa: B023
        cost = lambda q: 0.5 * d(q) @ H @ d(q)  # noqa: B023
        found = f(w[:, 0], H, float(scale[0, 0]), float(minimum[0, 0]), bits)
        assert np.shape(found) == (K,), f"shape {np.shape(found)}, wanted ({K},)"
        least = min(map(cost, itertools.product(range(2 ** bits), repeat=K)))
        assert cost(found) <= least * (1 + 1e-6) + 1e-12, f"{cost(found)} and not {least}"
        ours = cost(gptq(w, H, K, bits, damp=0, static=True).q[:, 0])
        assert ours >= least * (1 - 1e-6)
        equal += ours <= least * (1 + 1e-6)
    assert equal > 0


def check_shrink_groups(f):
    """Factor 1 is rounding to nearest; more factors never hurt a group; each is tried."""
    rng = np.random.default_rng(0)
    for K, group, bits in ((32, 8, 3), (20, 8, 2), (5, 32, 4)):
        w = rng.standard_normal((K, 6)).astype(np.float32)
        H = hessian(rng.standard_normal((80, K)) @ rng.standard_normal((K, K)))
        one, many = f(w, H, group, bits, (1.0,)), f(w, H, group, bits, (1.0, 0.8, 0.6))
        assert np.shape(one) == np.shape(many) == w.shape
        assert np.allclose(one, quantise(w, group, bits).dense(), atol=0.01)
        better = 0
        for k in range(0, K, group):
            part, h = slice(k, k + group), H[k:k + group, k:k + group]
            for n in range(6):
                costs = [layer_error(w[part, n:n + 1], f(w[part, n:n + 1], h, group, bits, (a,)), h)
                         for a in (1.0, 0.8, 0.6)]
                mine = layer_error(w[part, n:n + 1], many[part, n:n + 1], h)
                assert abs(mine - min(costs)) <= 1e-5 * max(costs), (k, n, mine, costs)
                better += costs.index(min(costs)) > 0
        assert better or bits > 2, "a narrower grid is never taken"
