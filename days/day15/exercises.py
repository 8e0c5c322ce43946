"""Day 15 · Exercises to build; `python -m days check 15` grades them."""

import numpy as np

from llm.grad import check, ops
from llm.grad.tensor import Tensor, primitive
from llm.grad.walk import saved_bytes


def choose_pair():
    """Return (f, f_vjp), ready for `primitive`: each entry from one of two arrays.

    f(mask, a, b), three arrays of one shape, mask of booleans: a where mask is true, b elsewhere.
    f_vjp(dout, *saved) → (None, da, db). Keep one byte a number. An infinite gradient must reach
    the array that was chosen, and the other gets 0, not NaN. Example::

        f, f_vjp = choose_pair()
        out, saved = f(np.array([True, False]), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        # out: [1, 4]
        f_vjp(np.array([5.0, 6.0]), *saved)                              # (None, [5, 0], [0, 6])
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


def check_choose_pair(make):
    """The hand example, finite differences, an infinity, and a record of one byte a number."""
    f, f_vjp = make()
    mask = np.array([True, False])
    out, saved = f(mask, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert out.tolist() == [1, 4]
    none, *found = f_vjp(np.array([5.0, 6.0]), *saved)
    assert none is None and [g.tolist() for g in found] == [[5, 0], [0, 6]]
    _, da, db = f_vjp(np.array([np.inf, -np.inf]), *saved)
    assert da.tolist() == [np.inf, 0] and db.tolist() == [0, -np.inf], "∞ · 0 is NaN"
    rng = np.random.default_rng(0)
    for shape in [(3,), (2, 4), (2, 1, 3), (0, 2), ()]:
        a, b = (np.asarray(rng.standard_normal(shape)) for _ in range(2))
        check.check_pair(f, f_vjp, np.asarray(rng.random(shape) < 0.5), a, b, rng=rng)
    x = Tensor(rng.standard_normal((4, 25)), requires_grad=True)
    leaky = primitive(f, f_vjp)(x.data > 0, x + 0.0, x - 1.0)
    assert saved_bytes(leaky) == 100, f"{saved_bytes(leaky)} bytes are kept for 100 numbers"
    (leaky * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad, np.full((4, 25), 2.0))      # through one or the other


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
