"""Day 48 · RMSNorm and SwiGLU, with their gradients, against PyTorch's; on NumPy and on kernels."""

import contextlib

import numpy as np
import pytest

from llm.grad.tensor import Tensor
from llm.layers.gated import RMSNorm, SwiGLU
from llm.train.fast_gated import fast

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here: see requirements-dev.txt")


def theirs(array):
    return torch.from_numpy(np.ascontiguousarray(array)).requires_grad_()


def close(ours, torchs, tolerance):
    assert np.abs(ours - torchs.detach().numpy()).max() < tolerance


WAYS = [(np.float64, contextlib.nullcontext, 1e-12), (np.float32, contextlib.nullcontext, 2e-5),
        (np.float32, fast, 2e-5)]


@pytest.mark.parametrize("dtype, context, tolerance", WAYS)
@pytest.mark.parametrize("shape, eps", [((1,), 1e-5), ((3, 7), 1e-5), ((2, 5, 96), 1e-6),
                                        ((40, 64), .1)])
def test_rmsnorm_and_its_gradients_equal_torchs(shape, eps, dtype, context, tolerance):
    rng = np.random.default_rng(0)
    x, dout = (rng.standard_normal(shape).astype(dtype) + dtype(.5) for _ in range(2))
    part = RMSNorm(shape[-1], eps=eps, dtype=dtype)
    part.gain.data = rng.standard_normal(shape[-1]).astype(dtype)
    mine, yours, gain = Tensor(x, requires_grad=True), theirs(x), theirs(part.gain.data)
    with context():
        out = part(mine)
        out.backward(dout)
    peer = torch.nn.functional.rms_norm(yours, shape[-1:], gain, eps)
    peer.backward(torch.from_numpy(dout))
    close(out.data, peer, tolerance)
    close(mine.grad, yours.grad, tolerance)
    close(part.gain.grad, gain.grad, tolerance)


@pytest.mark.parametrize("dtype, context, tolerance", WAYS)
@pytest.mark.parametrize("shape, F", [((1, 4), 3), ((2, 5, 24), 64)])
def test_the_swiglu_feed_forward_and_its_gradients_equal_torchs(shape, F, dtype, context,
                                                                tolerance):
    rng = np.random.default_rng(1)
    part = SwiGLU(shape[-1], F, rng)
    for p in part.named_parameters().values():
        p.data = p.data.astype(dtype)
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    mine, yours = Tensor(x, requires_grad=True), theirs(x)
    gate, up, down = weights = [theirs(p.data) for p in part.named_parameters().values()]
    with context():
        out = part(mine)
        out.backward(dout)
    peer = (torch.nn.functional.silu(yours @ gate) * (yours @ up)) @ down
    peer.backward(torch.from_numpy(dout))
    close(out.data, peer, tolerance)
    close(mine.grad, yours.grad, tolerance)
    for p, weight in zip(part.named_parameters().values(), weights, strict=True):
        close(p.grad, weight.grad, tolerance)
