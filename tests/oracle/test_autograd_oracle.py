"""Day 15 · Every rule, and the gradients of a small network, against torch.autograd."""

import numpy as np
import pytest

from llm.grad import ops, tensor
from llm.grad.tensor import Tensor

torch = pytest.importorskip("torch")
F = torch.nn.functional
rng = np.random.default_rng(15)


def normal(*shape):
    return rng.standard_normal(shape)


SCORES = np.array([[4, -100, 0], [2, 2, 1]])
TIES = np.array([[[2.0, 1, 0], [3, 3, 1]], [[2, 2, 1], [0, 1, 2]]])   # equal maxima share evenly
CASES = {
    "add": (tensor.add, torch.add, normal(2, 3, 4), normal(3, 1)),
    "sub": (tensor.sub, torch.sub, normal(4), normal(2, 1, 4)),
    "mul": (tensor.mul, torch.mul, normal(3, 1), normal(1, 4)),
    "div": (tensor.div, torch.div, normal(2, 3), 1 + rng.random(3)),
    "matmul": (tensor.matmul, torch.matmul, normal(2, 1, 3, 4), normal(5, 4, 6)),
    "linear": (ops.linear, lambda x, w, b: F.linear(x, w.T, b), normal(2, 3, 4), normal(4, 5),
               normal(5)),
    "embedding": (ops.embedding, lambda table, ids: F.embedding(ids, table), normal(7, 3),
                  np.array([[2, 2, 5], [0, 2, 6]])),
    "relu": (ops.relu, torch.relu, normal(3, 4)),
    "tanh": (ops.tanh, torch.tanh, normal(3, 4)),
    "sigmoid": (ops.sigmoid, torch.sigmoid, 5 * normal(3, 4)),
    "silu": (ops.silu, F.silu, 5 * normal(3, 4)),
    "gelu": (ops.gelu, lambda x: F.gelu(x, approximate="tanh"), 3 * normal(3, 4)),
    "softmax": (ops.softmax, lambda x: torch.softmax(x, -1), 3 * normal(2, 3, 4)),
    "cross_entropy": (ops.cross_entropy, lambda z, t: F.cross_entropy(z.movedim(-1, 1), t),
                      3 * normal(2, 3, 5), SCORES),
    "sum": (lambda x: x.sum(axis=(0, -1)), lambda x: x.sum((0, -1)), normal(2, 3, 4)),
    "mean": (lambda x: x.mean(axis=1), lambda x: x.mean(1), normal(2, 3, 4)),
    "reshape": (lambda x: x.reshape(4, -1), lambda x: x.reshape(4, -1), normal(2, 3, 4)),
    "transpose": (lambda x: x.transpose(0, -1, 1), lambda x: x.permute(0, -1, 1), normal(2, 3, 4)),
    "take": (lambda x: x[[0, 0, 1], 1:], lambda x: x[[0, 0, 1], 1:], normal(2, 3, 4)),
    "power": (lambda x: x**3, lambda x: x**3, normal(2, 3)),
    "largest": (lambda x: x.max(axis=(0, -1)), lambda x: torch.amax(x, (0, -1)), TIES),
    "exp": (ops.exp, torch.exp, normal(3, 4)),
    "log": (ops.log, torch.log, 0.1 + rng.random((3, 4))),
    "gelu_erf": (ops.gelu_erf, F.gelu, 3 * normal(3, 4)),
    "log_softmax": (lambda x: ops.log_softmax(x, axis=1), lambda x: torch.log_softmax(x, 1),
                    3 * normal(2, 5, 3)),
    "cat": (lambda a, b: ops.cat(a, b, axis=1), lambda a, b: torch.cat((a, b), 1), normal(2, 1, 3),
            normal(2, 4, 3)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_an_operation_and_its_gradients_equal_torchs(name, dtype, tolerance):
    ours, theirs, *arrays = CASES[name]
    arrays = [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]
    mine = [Tensor(a, requires_grad=True) if a.dtype == dtype else a for a in arrays]
    other = [torch.tensor(a, requires_grad=a.dtype == dtype) for a in arrays]
    out, expected = ours(*mine), theirs(*other)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    dout = normal(*out.shape).astype(dtype) if out.shape else np.asarray(1.5, dtype)
    out.backward(dout)
    expected.backward(torch.tensor(dout))
    for a, b in zip(mine, other):
        if isinstance(a, Tensor):
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_every_primitive_has_a_case():
    names = {name for module in (ops, tensor) for name, value in vars(module).items()
             if isinstance(value, tensor.primitive)}
    assert names - set(CASES) == {"total"}                        # its case is called "sum"


def test_a_network_with_shared_weights_and_two_backward_calls_equals_torchs():
    table, w, v = normal(9, 4), normal(12, 6), normal(6, 9)
    ids, targets = rng.integers(9, size=(2, 5, 3)), rng.integers(9, size=(2, 5))
    targets[0, 0] = -100

    def loss(table, w, v, ids, targets, gelu, linear, embedding, cross_entropy, softmax):
        x = embedding(table, ids).reshape(5, 12)
        h = gelu(linear(x, w))
        h = h + softmax(linear(h, v)) @ table @ v.T[0:4] * 0.5    # table and v: used again
        return cross_entropy(linear(h, v), targets)

    mine = [Tensor(a, requires_grad=True) for a in (table, w, v)]
    other = [torch.tensor(a, requires_grad=True) for a in (table, w, v)]
    for k in range(2):                                            # gradients of two batches add up
        ours = loss(*mine, ids[k], targets[k], ops.gelu, lambda x, w: ops.linear(x, w, None),
                    ops.embedding, ops.cross_entropy, ops.softmax)
        ours.backward()
        theirs = loss(*other, torch.tensor(ids[k]), torch.tensor(targets[k]),
                      lambda x: F.gelu(x, approximate="tanh"), torch.matmul,
                      lambda table, ids: F.embedding(ids, table), F.cross_entropy,
                      lambda x: torch.softmax(x, -1))
        theirs.backward()
        assert ours.data == pytest.approx(theirs.item(), rel=1e-12)
    for a, b in zip(mine, other):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-14)
