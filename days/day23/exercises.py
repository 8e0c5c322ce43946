"""Day 23 · Exercises to build; `python -m days check 23` grades them."""

import numpy as np

from llm.layers.module import parameter
from llm.train.adam import AdamW


def noise_scale(gradients):
    """How many rows a batch needs before its gradient is more signal than noise: a float.

    gradients: (B, N) float array, one row's gradient each. With the mean gradient G (N,) and the
    trace of the covariance of the rows' gradients S, it is S / |G|², both estimated without bias:
    S = Σ |g − ḡ|² / (B − 1), and |G|² = |ḡ|² − S / B. Where |G|² comes out at 0 or below, the
    answer is infinity. Raises ValueError for fewer than 2 rows. Example::

        noise_scale(np.array([[2.0], [4.0]]))       # S = 2, |G|² = 9 − 1 = 8: 0.25

    Source: McCandlish et al. 2018, arXiv 1812.06162, section 2.2 and appendix A.1.
    """
    raise NotImplementedError


def per_layer_rates(parameters, wanted, make):
    """{name: rate} so that each matrix's *first* update is `wanted` times its size.

    parameters: {name: Tensor with .grad}. make(parameters) -> an optimizer with step(rate), such
    as AdamW without decay, whose update is proportional to the rate. Neither weights nor gradients
    may be changed. Names of vectors and of matrices that do not move are left out. Example::

        per_layer_rates({"w": w}, 1e-3, AdamW)      # {"w": 1e-3 · rms(w)} nearly
    """
    raise NotImplementedError


def check_noise_scale(f):
    """The example, a known covariance, and rows without a common direction."""
    assert abs(f(np.array([[2.0], [4.0]])) - 0.25) < 1e-12
    rng = np.random.default_rng(0)
    rows = np.array([3.0, 4.0]) + rng.normal(size=(200_000, 2)) * np.array([5.0, 10.0])
    assert abs(f(rows) - 125 / 25) < 0.1, "trace of the covariance over the squared mean"
    assert f(np.array([[1.0, 0.0], [-1.0, 0.0]])) == np.inf
    try:
        f(np.ones((1, 3)))
    except ValueError:
        return
    raise AssertionError("one row has no covariance: ValueError")


def check_per_layer_rates(f):
    """The rates are tried on copies."""
    rng = np.random.default_rng(1)
    make = lambda parameters: AdamW(parameters, decay=0.0)
    parameters = {}
    for name, shape, size in (("a", (30, 20), 0.1), ("b", (20,), 1.0), ("c", (20, 9), 3.0)):
        parameters[name] = parameter(size * rng.normal(size=shape))
        parameters[name].grad = rng.normal(size=shape)
    parameters["still"] = parameter(np.ones((2, 2)))
    parameters["still"].grad = np.zeros((2, 2))
    kept = {name: (p.data.copy(), p.grad.copy()) for name, p in parameters.items()}
    rates = f(parameters, 1e-3, make)
    assert set(rates) == {"a", "c"}, "matrices that move, and no others"
    for name, p in parameters.items():
        assert (p.data == kept[name][0]).all() and (p.grad == kept[name][1]).all(), "leave them be"
    for name, rate in rates.items():
        copy = parameter(kept[name][0].copy())
        copy.grad = kept[name][1].copy()
        make({name: copy}).step(rate)
        moved = np.sqrt(np.mean((copy.data - kept[name][0]) ** 2))
        assert abs(moved / np.sqrt(np.mean(kept[name][0] ** 2)) / 1e-3 - 1) < 1e-3, name
