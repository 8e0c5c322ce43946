"""Day 08 · Build: draws in constant time, and the temperature that gives a wanted entropy."""

import numpy as np

from llm.functions.probability import entropy
from llm.generate.sample import tempered


def alias_table(p):
    """Prepare draws in O(1): p (V,) -> (keep (V,) float64, other (V,) integers).

    To draw: pick a column i uniformly, keep i with probability keep[i], else take other[i].
    So id j must come out with probability (keep[j] + Σ over i with other[i] = j of
    (1 − keep[i])) / V = p[j]. Example (one of several right answers)::

        alias_table(np.array([.75, .25]))  →  keep [1, .5], other [0, 0]
    """
    raise NotImplementedError


def temperature_for(logits, bits):
    """Return the T > 0 at which softmax(logits / T) has an entropy of `bits`, within 1e-6 bits.

    logits: (V,) finite, not all equal, one maximum; 0 < bits < log2 V. Example::

        temperature_for(np.log([1/2, 1/4, 1/8, 1/8]), 1.75)  →  1.0
    """
    raise NotImplementedError


def check_alias_table(f):
    """The probabilities that a table stands for are exactly those asked for."""
    rng = np.random.default_rng(0)
    cases = [np.array([.75, .25]), np.array([1.0]), np.full(8, 1 / 8), np.array([0, 1.0, 0])]
    cases += [rng.dirichlet(np.full(v, alpha)) for v in (2, 5, 100) for alpha in (.1, 1, 10)]
    for p in cases:
        given = p.copy()
        keep, other = f(p)
        keep, other = np.asarray(keep, float), np.asarray(other)
        assert (p == given).all(), "p was changed"
        assert keep.shape == other.shape == p.shape, f"{keep.shape}, {other.shape}: not {p.shape}"
        assert keep.min() >= 0 and keep.max() <= 1 + 1e-12, "keep must hold probabilities"
        implied = (keep + np.bincount(other, 1 - keep, len(p))) / len(p)
        np.testing.assert_allclose(implied, p, atol=1e-12)


def check_temperature_for(f):
    """The example, and random logits at many entropies."""
    assert abs(f(np.log([1 / 2, 1 / 4, 1 / 8, 1 / 8]), 1.75) - 1) < 1e-4
    rng = np.random.default_rng(1)
    for v in (2, 10, 84):
        logits = rng.normal(size=v) * 5
        for part in (.01, .3, .6, .99):
            bits = part * np.log2(v)
            got = entropy(tempered(logits, f(logits, bits))) / np.log(2)
            assert abs(got - bits) < 1e-5, f"{got} bits in place of {bits}"
