"""Day 15 · Exercises to build; `python -m days check 15` grades them."""

import numpy as np

from llm.grad import check, ops
from llm.grad.tensor import Tensor, primitive
from llm.grad.walk import saved_bytes


def concatenate_pair():
    """Return (f, f_vjp), ready for `primitive`: two arrays side by side along the last axis.

    f(a, b): a (..., N), b (..., M) → (out (..., N + M), saved). f_vjp(dout, *saved) → (da, db).
    Save no array. Example::

        f, f_vjp = concatenate_pair()
        out, saved = f(np.array([1.0, 2.0]), np.array([3.0]))            # out: [1, 2, 3]
        f_vjp(np.array([5.0, 6.0, 7.0]), *saved)                         # ([5, 6], [7])
    """
    raise NotImplementedError


def accumulate_batches(loss, batches):
    """Add to all leaves the gradient of the mean over ALL examples, one batch in memory at a time.

    loss(batch) → Tensor, the mean over the batch's examples; batches: a list of arrays of unequal
    lengths. Returns the mean loss over all examples, a float. Example::

        w = Tensor(np.ones(1), requires_grad=True)
        accumulate_batches(lambda batch: (batch * w).mean(), [np.ones(3), np.array([9.0])])
        # 3.0, and w.grad is [3.0]: (1 + 1 + 1 + 9) / 4, not the mean of 1 and 9
    """
    raise NotImplementedError


def check_concatenate_pair(make):
    """The hand example, finite differences, and a record that holds no array."""
    f, f_vjp = make()
    out, saved = f(np.array([1.0, 2.0]), np.array([3.0]))
    assert out.tolist() == [1, 2, 3]
    assert [g.tolist() for g in f_vjp(np.array([5.0, 6.0, 7.0]), *saved)] == [[5, 6], [7]]
    rng = np.random.default_rng(0)
    for a, b in [((3,), (1,)), ((2, 3), (2, 4)), ((2, 1, 3), (2, 1, 3)), ((2, 0), (2, 2))]:
        check.check_pair(f, f_vjp, rng.standard_normal(a), rng.standard_normal(b), rng=rng)
    x = Tensor(rng.standard_normal((2, 3)), requires_grad=True)
    both = primitive(f, f_vjp)(x, x)
    assert saved_bytes(both) == 0, "only N is needed: an array that is saved is kept alive"
    (both * np.arange(6.0)).sum().backward()
    np.testing.assert_allclose(x.grad, [[3.0, 5.0, 7.0]] * 2)


def check_accumulate_batches(f):
    """The hand example, a network against its full batch, and one record at a time."""
    w = Tensor(np.ones(1), requires_grad=True)
    value = f(lambda batch: (batch * w).mean(), [np.ones(3), np.array([9.0])])
    assert abs(value - 3) < 1e-12 and abs(w.grad[0] - 3) < 1e-12, (value, w.grad)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)), rng.integers(3, size=12)
    w = Tensor(rng.standard_normal((4, 3)), requires_grad=True)
    made = []

    def loss(rows):
        assert not made or made[-1].node.vjp is None, "go back before the next batch goes forward"
        made.append(ops.cross_entropy(ops.tanh(ops.linear(x[rows], w)), y[rows]))
        return made[-1]

    whole = loss(np.arange(12))
    whole.backward()
    expected, w.grad = w.grad, np.ones((4, 3))
    value = f(loss, np.split(np.arange(12), [1, 3, 8]))
    assert abs(value - float(whole.data)) < 1e-12, "weigh each batch by its number of examples"
    np.testing.assert_allclose(w.grad, 1 + expected, err_msg="add to what the leaves hold")
    assert isinstance(value, float)
