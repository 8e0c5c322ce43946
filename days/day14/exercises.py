"""Day 14 · Exercises to build; `python -m days check 14` grades them."""

import numpy as np

from llm.grad import check, rules


def normalise_vjp(dout, y, norm):
    """The VJP of y = x / ‖x‖ over the last axis: what comes back for x.

    dout, y: (..., C); norm: ‖x‖, (..., 1). Returns dx (..., C); 2 sums and no matrix. Example::

        normalise_vjp(np.array([1.0, 0.0]), np.array([0.6, 0.8]), np.array([5.0]))
        # [0.128, -0.096]: only what is across y gets through, divided by 5
    """
    raise NotImplementedError


def running_sum_vjp(dout, axis):
    """The VJP of y = np.cumsum(x, axis): y[t] is the sum of x[0] … x[t] along the axis.

    dout: of the shape of y, any number of axes; axis: one of them, perhaps negative. Returns dx of
    the same shape and dtype; as many additions as the forward, and no matrix. Example::

        running_sum_vjp(np.array([1.0, 2.0, 4.0]), 0)                    # [7, 6, 4]
    """
    raise NotImplementedError


def whole_jacobian(f, f_vjp, x):
    """The full matrix J[j, i] = ∂out[j]/∂x[i] of a pair, one row for each call of the VJP.

    f(x) → (out, saved), x (n,) and out (m,) vectors. Returns (m, n). f may be called once only.
    Example::

        whole_jacobian(rules.relu, rules.relu_vjp, np.array([3.0, -1.0]))   # [[1, 0], [0, 0]]
    """
    raise NotImplementedError


def check_normalise_vjp(f):
    """The hand example, finite differences, and that a gradient along x changes nothing."""
    found = f(np.array([1.0, 0.0]), np.array([0.6, 0.8]), np.array([5.0]))
    np.testing.assert_allclose(found, [0.128, -0.096], atol=1e-15)
    rng = np.random.default_rng(0)

    def normalise(x):
        norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return x / norm, (x / norm, norm)

    for shape in [(3,), (2, 5), (2, 3, 4), (4, 1)]:
        x = rng.standard_normal(shape)
        check.check_pair(normalise, lambda *args: (f(*args),), x, rng=rng)
        y, saved = normalise(x)
        assert np.abs(f(3 * y, *saved)).max() < 1e-12, "longer x, same y: dout = y must give 0"


def check_running_sum_vjp(f):
    """The hand example, finite differences along every axis, a long array, and ends."""
    np.testing.assert_array_equal(f(np.array([1.0, 2.0, 4.0]), 0), [7, 6, 4])
    rng = np.random.default_rng(0)
    pair = lambda x, axis: (np.cumsum(x, axis), (axis,))
    for shape, axis in [((4,), 0), ((3, 5), 0), ((3, 5), 1), ((2, 3, 4), -2), ((2, 3, 4), -1),
                        ((3, 1), 1), ((0, 4), 0)]:
        check.check_pair(pair, lambda dout, axis: (f(dout, axis),), rng.standard_normal(shape),
                         rng=rng, axis=axis)
    dout = rng.standard_normal(300_000)          # a matrix of slopes would have 90,000,000,000
    dx = f(dout, 0)
    assert dx[-1] == dout[-1], "the last x touches the last y only"
    np.testing.assert_allclose(dx[0], dout.sum(), atol=1e-8)


def check_whole_jacobian(f):
    """diag(p) − ppᵀ for the softmax, a matrix itself for x ↦ Wx, and one forward call."""
    x = np.random.default_rng(0).standard_normal(5)
    p = rules.softmax(x)[0]
    found = f(rules.softmax, rules.softmax_vjp, x)
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), atol=1e-15)
    w, calls = np.arange(15.0).reshape(3, 5), []

    def times(x):
        calls.append(1)
        return w @ x, ()

    found = f(times, lambda dout: (w.T @ dout,), x)
    np.testing.assert_allclose(found, w)
    assert len(calls) == 1, f"f was called {len(calls)} times; what it saved serves every row"
