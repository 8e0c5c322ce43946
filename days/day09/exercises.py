"""Day 09 · Build: a softened target, and the curvature of the loss."""

import numpy as np

from llm.functions.probability import log_softmax, softmax


def smoothed_gradient(z, targets, epsilon):
    """Gradient of the mean cross-entropy against softened targets.

    z: (N, V) logits; targets: (N,) ids. The target distribution y gives 1 − ε + ε/V to the right
    token and ε/V to each other one. Returns ∂L/∂z (N, V); do not change z. Example::

        smoothed_gradient(np.zeros((1, 2)), np.array([0]), 0.2)  →  [[-0.4, 0.4]]
    """
    raise NotImplementedError


def hessian(z):
    """Second derivatives of −log softmax(z)[target] by the logits: z (V,) → (V, V).

    They do not depend on the target. Example::

        hessian(np.zeros(2))  →  [[0.25, -0.25], [-0.25, 0.25]]
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


def check_hessian(f):
    """The example; finite differences of p − y; bounds 0 and 1/2 on the curvature."""
    np.testing.assert_allclose(f(np.zeros(2)), [[.25, -.25], [-.25, .25]])
    rng = np.random.default_rng(1)
    for _ in range(5):
        z = rng.normal(size=6) * 2
        h = f(z)
        assert h.shape == (6, 6), f"expected (6, 6), got {h.shape}"
        for j in range(6):
            step = 1e-5 * np.eye(6)[j]
            np.testing.assert_allclose(h[:, j], (softmax(z + step) - softmax(z - step)) / 2e-5,
                                       atol=1e-8)
        curvature = np.linalg.eigvalsh(h)
        assert curvature.min() > -1e-12 and curvature.max() <= .5
