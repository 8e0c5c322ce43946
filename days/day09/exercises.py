"""Day 09 · Build: a softened target, and the curvature of the loss without its matrix."""

import numpy as np

from llm.functions.probability import log_softmax, softmax


def smoothed_gradient(z, targets, epsilon):
    """Gradient of the mean cross-entropy against softened targets.

    z: (N, V) logits; targets: (N,) ids. The target distribution y gives 1 − ε + ε/V to the right
    token and ε/V to each other one. Returns ∂L/∂z (N, V); do not change z. Example::

        smoothed_gradient(np.zeros((1, 2)), np.array([0]), 0.2)  →  [[-0.4, 0.4]]
    """
    raise NotImplementedError


def curvature_times(z, v):
    """The Hessian of −log softmax(z)[target] times a vector, row by row, without the matrix.

    z and v: (N, V) float64. Returns (N, V): row n is (diag(p) − p pᵀ) v for p = softmax(z[n]) and
    v = v[n]. It may take no more memory than a few arrays of (N, V). Example::

        curvature_times(np.zeros((1, 2)), np.array([[1.0, 0.0]]))  →  [[0.25, -0.25]]
    """
    raise NotImplementedError


def check_smoothed_gradient(f):
    """The example, then finite differences of the loss written out."""
    np.testing.assert_allclose(f(np.zeros((1, 2)), np.array([0]), .2), [[-.4, .4]])
    rng = np.random.default_rng(0)
    z, targets, epsilon = rng.normal(size=(3, 5)), np.array([4, 0, 4]), .3
    y = np.full((3, 5), epsilon / 5)
    y[np.arange(3), targets] += 1 - epsilon
    kept, dz = z.copy(), f(z, targets, epsilon)
    assert (z == kept).all(), "z was changed"
    assert dz.shape == z.shape, f"expected the shape {z.shape}, got {dz.shape}"
    for place in np.ndindex(z.shape):
        step = np.zeros(z.shape)
        step[place] = 1e-5
        up, down = (-(y * log_softmax(z + s)).sum() / 3 for s in (step, -step))
        assert abs(dz[place] - (up - down) / 2e-5) < 1e-8, f"wrong at {place}"


def check_curvature_times(f):
    """The example; finite differences of p; bounds 0 and 1/2; rows too long for a matrix."""
    np.testing.assert_allclose(f(np.zeros((1, 2)), np.array([[1., 0]])), [[.25, -.25]])
    rng = np.random.default_rng(1)
    z, v = rng.normal(size=(2, 7, 6)) * 2
    got = f(z, v)
    assert got.shape == z.shape, f"expected {z.shape}, got {got.shape}"
    np.testing.assert_allclose(got, (softmax(z + 1e-6 * v) - softmax(z - 1e-6 * v)) / 2e-6,
                               atol=1e-8)
    along = (v * got).sum(axis=1)
    assert (along >= 0).all() and (along <= (v * v).sum(axis=1) / 2).all()
    assert np.abs(f(z, np.ones_like(z))).max() < 1e-15     # a shift of all logits changes nothing
    wide = np.zeros((1, 100_000))                          # its matrix would take 80 GB
    assert np.abs(f(wide, wide + 1)).max() < 1e-15
