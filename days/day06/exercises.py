"""Day 06 · Build: a discount and a prior in one formula, and the best mixture of two models."""

import numpy as np


def discount_and_prior(counts, below, discount, strength):
    """One context's distribution with a discount D and a prior of strength θ (Pitman and Yor).

    counts: (V,) how often each token followed; below: (V,) the shorter context's distribution;
    D in [0, 1), θ ≥ 0. Every count above 0 loses D; what was taken, and θ more, is spread as
    `below`; all is divided by C + θ with C = Σ counts. With θ = 0 it is absolute discounting, with
    D = 0 the Dirichlet posterior mean. A context never seen gives `below`. Example::

        discount_and_prior(np.array([3, 1]), np.array([.5, .5]), .5, 1.)  →  [.7, .3]
    """
    raise NotImplementedError


def mixture_weight(one, two):
    """The share λ in [0, 1] of the first model that gives a text the highest likelihood.

    one, two: (T,) ln P of the same tokens from two models. Maximise Σ ln(λ e^one + (1 − λ) e^two)
    to within 1e-4. Tokens may have very low probabilities: e^−2000 must not become 0 / 0.
    Example::

        mixture_weight(np.log([.9, .1]), np.log([.1, .9]))  →  0.5
    """
    raise NotImplementedError


def check_discount_and_prior(f):
    """The example, both special cases, a context never seen, and the sum."""
    half = np.array([.5, .5])
    np.testing.assert_allclose(f(np.array([3, 1]), half, .5, 1.), [.7, .3])
    np.testing.assert_allclose(f(np.array([3, 1]), half, .5, 0.), [.75, .25])
    np.testing.assert_allclose(f(np.array([3, 1]), half, 0., 4.), [5 / 8, 3 / 8])
    np.testing.assert_allclose(f(np.array([0, 0]), np.array([.2, .8]), .5, 0.), [.2, .8])
    rng = np.random.default_rng(0)
    for v in (1, 3, 84):
        counts, below = rng.poisson(.7, v), rng.dirichlet(np.ones(v))
        p = f(counts, below, .75, 2.)
        assert p.min() > 0 and abs(p.sum() - 1) < 1e-12, "it should be above 0 and sum to 1"


def check_mixture_weight(f):
    """The example, a grid search on random models, one that is always better, tiny numbers."""
    assert abs(f(np.log([.9, .1]), np.log([.1, .9])) - .5) < 1e-3
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 20_001)[1:-1]
    for scale in (.3, 1., 3.):
        one, two = scale * rng.normal(size=(2, 60)) - 2
        best = grid[(np.log(grid[:, None] * np.exp(one) + (1 - grid[:, None]) * np.exp(two))
                     .sum(axis=1)).argmax()]
        weight = f(one, two)
        assert abs(weight - best) < 2e-3, f"expected {best:.4f}, got {weight:.4f}"
    assert f(np.full(50, -1.), np.full(50, -3.)) > .999
    assert abs(f(np.array([-2000., -2003]), np.array([-2003., -2000])) - .5) < 1e-3
