"""Day 05 · Solutions."""

import numpy as np


def shannon_walk(ids, order, n, prompt, rng):
    """Random places of the book, one for each token."""
    context, out = list(prompt), []
    ends = np.arange(order, len(ids))                 # where a token with a full context stands
    for _ in range(n):
        here = ends
        for back in range(1, order + 1):              # keep the places where the context agrees
            here = here[ids[here - back] == context[-back]]
        if len(here) == 0:
            break
        context.append(ids[rng.choice(here)])
        out.append(context[-1])
    return np.array(out, int)


def stationary(matrix):
    """Solve π (P − I) = 0 together with Σ π = 1; iterating would never settle on a cycle."""
    v = len(matrix)
    equations = np.vstack([matrix.T - np.eye(v), np.ones(v)])
    return np.linalg.lstsq(equations, np.append(np.zeros(v), 1), rcond=None)[0]
