"""Day 02 · Solutions of the build exercises."""

import math

from llm.tensors.vectors import norm, project


def safe_norm(u):
    """Divide by the largest entry first: all squares are then between 0 and 1, one of them 1."""
    largest = max((abs(x) for x in u), default=0)
    if largest == 0:
        return 0.0
    return largest * math.sqrt(sum((x / largest) ** 2 for x in u))


def gram_schmidt(vectors):
    """Remove what earlier directions explain, keep what is left."""
    directions = []
    for vector in vectors:
        rest = list(vector)
        for direction in directions:
            rest = [x - y for x, y in zip(rest, project(rest, direction))]
        if norm(rest) > 1e-9 * norm(vector):
            length = norm(rest)
            directions.append([x / length for x in rest])
    return directions
