"""Day 46 · Exercises to build; `python -m days check 46` grades them."""

import numpy as np

from days.day46 import chi2
from llm.generate.speculative import draw, residual
from llm.generate.speedup import acceptance
from llm.grad.check import numerical_gradient


def distance(logits, teacher):
    """Train a draft for what counts: the mean share of its guesses that would be refused.

    logits, teacher: (..., V) -> (loss, dlogits): the mean over all rows of 1 − Σ min(p, q), with
    p = softmax(teacher) and q = softmax(logits), and its gradient for the logits, of their shape.
    Where p = q at one token, either side's slope will do.
    """
    raise NotImplementedError


def accept_one_of_two(p, q, guesses, rng):
    """Two independent guesses, both drawn from q (V,), for one place: a small tree of drafts.

    Returns an id with the distribution p (V,), whatever q is, and one of the guesses as often as
    the following does: try the first as `accept` would; if it is refused, try the second for what
    is left of p; if that is refused too, draw from what is left then.
    """
    raise NotImplementedError


def check_distance(f):
    """Against its definition, and the gradient against finite differences."""
    rng = np.random.default_rng(0)
    for shape in ((4,), (3, 5), (2, 3, 7)):
        z, v = rng.normal(size=(2, *shape))

        def loss(x, v=v):
            p, q = (np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in (v, x))
            return float((1 - acceptance(p, q)).mean())

        found, dz = f(z, v)
        assert np.isclose(found, loss(z)), f"loss {found}, wanted {loss(z)}"
        assert np.shape(dz) == shape, f"a gradient of shape {np.shape(dz)}, wanted {shape}"
        numeric = numerical_gradient(loss, z)
        assert np.allclose(dz, numeric, atol=1e-6), "the gradient is not that of the loss"


def check_accept_one_of_two(f):
    """χ² of 20,000 results against p, and more guesses kept than with one guess alone."""
    rng, times = np.random.default_rng(1), 20_000
    for p, q in (([0.5, 0.3, 0.2], [0.2, 0.7, 0.1]), ([0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]),
                 ([0.0, 0.5, 0.5], [0.4, 0.6, 0.0]), ([0.25] * 4, [0.25] * 4)):
        p, q = np.array(p), np.array(q)
        guesses = [(draw(q, rng), draw(q, rng)) for _ in range(times)]
        found = [f(p, q, pair, rng) for pair in guesses]
        counts, seen = np.bincount(found, minlength=len(p)), p > 0
        assert counts[~seen].sum() == 0, "a token came that p forbids"
        statistic = chi2.value(counts[seen], times * p[seen])
        assert statistic < chi2.limit(seen.sum() - 1, 1e-4), f"χ² {statistic:.1f}: that is not p"
        kept = np.mean([i in pair for i, pair in zip(found, guesses)])
        wanted = acceptance(p, q)
        wanted += (1 - wanted) * acceptance(residual(p, q), q)
        assert kept > wanted - 0.02, f"{kept:.3f} of the results are guesses; {wanted:.3f} can be"
