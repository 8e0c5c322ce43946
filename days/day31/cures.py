"""Day 31 · Reading past the trained length: angles slowed in several ways, in a finished model."""

import numpy as np

from llm.layers.rotary import Rotary, angles


def factors(D, T, longer, base=10000.0):
    """{name: what each hand's speed is multiplied by, (D/2,)} for texts `longer` times as long.

    All at once (Chen et al. 2023), by a larger base ("NTK-aware"), only the hands that made less
    than one turn in T tokens (by parts, Peng et al. 2023), and, as controls, each hand alone.
    """
    half = D // 2
    turns = angles(2, D, base)[1] * T / (2 * np.pi)
    ways = {"as trained": np.ones(half), "all hands": np.full(half, 1 / longer),
            "larger base": longer ** (-np.arange(half) / (half - 1)),
            "by parts": np.where(turns < 1, 1 / longer, 1.0)}
    for i in range(half):
        ways[f"hand {i + 1} only"] = np.where(np.arange(half) == i, 1 / longer, 1.0)
    return ways


def slowed(D, T_max, factor):
    """A Rotary whose pairs turn at `factor` (D/2,) times their usual speed."""
    rule, angle = Rotary(D, T_max), angles(T_max, D) * factor
    rule.exact = np.cos(angle), np.sin(angle)
    rule.cos, rule.sin = (table.astype(np.float32) for table in rule.exact)
    return rule


def with_rule(model, rule):
    """The same model, read with another rule."""
    for layer in model.layers:
        layer.rule = rule
    return model
