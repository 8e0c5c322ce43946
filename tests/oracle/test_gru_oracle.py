"""Day 22 · The GRU and the plain recurrent layer, with their gradients, against PyTorch's."""

import contextlib

import numpy as np
import pytest

from llm.grad.tensor import Tensor
from llm.layers.recurrent import GRU, RNN
from llm.train.fast_gru import fast

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here: see requirements-dev.txt")


def theirs(array):
    return torch.from_numpy(np.array(array)).requires_grad_()


def close(ours, torchs, tolerance):
    assert np.abs(ours - torchs.detach().numpy()).max() < tolerance


@pytest.mark.parametrize("dtype, context, tolerance", [
    (np.float64, contextlib.nullcontext, 1e-12), (np.float32, contextlib.nullcontext, 3e-5),
    (np.float32, fast, 3e-5)])
@pytest.mark.parametrize("B, T, cin, C", [(1, 1, 1, 1), (3, 7, 5, 4), (5, 20, 16, 24)])
def test_the_gru_and_its_gradients_equal_torchs(B, T, cin, C, dtype, context, tolerance):
    rng = np.random.default_rng(0)
    part = GRU(cin, C, rng, dtype=dtype)
    for p in (part.b, part.bh):
        p.data = rng.standard_normal(p.shape).astype(dtype)
    x, h0, dout = (rng.standard_normal(s).astype(dtype) for s in ((B, T, cin), (B, C), (B, T, C)))
    peer = torch.nn.GRU(cin, C, batch_first=True, dtype=torch.from_numpy(x).dtype)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(torch.from_numpy(part.w.data.T.copy()))
        peer.weight_hh_l0.copy_(torch.from_numpy(part.wh.data.T.copy()))
        peer.bias_ih_l0.copy_(torch.from_numpy(part.b.data))
        peer.bias_hh_l0.zero_()
        peer.bias_hh_l0[2 * C:] = torch.from_numpy(part.bh.data)
    tx, th = theirs(x), theirs(h0[None])
    expected, last = peer(tx, th)
    expected.backward(torch.from_numpy(dout))
    ours, start = Tensor(x, requires_grad=True), Tensor(h0, requires_grad=True)
    with context():
        out = part(ours, start)
        out.backward(dout)
    close(out.data, expected, tolerance)
    close(out.data[:, -1], last[0], tolerance)
    for mine, yours in ((ours.grad, tx.grad), (start.grad, th.grad[0]),
                        (part.w.grad.T, peer.weight_ih_l0.grad),
                        (part.wh.grad.T, peer.weight_hh_l0.grad),
                        (part.b.grad, peer.bias_ih_l0.grad),
                        (part.bh.grad, peer.bias_hh_l0.grad[2 * C:])):
        close(mine, yours, tolerance * max(1, np.abs(mine).max()))


@pytest.mark.parametrize("B, T, cin, C", [(1, 1, 1, 1), (3, 7, 5, 4)])
def test_the_plain_layer_and_its_gradients_equal_torchs(B, T, cin, C):
    rng = np.random.default_rng(1)
    part = RNN(cin, C, rng, dtype=np.float64)
    x, h0, dout = (rng.standard_normal(s) for s in ((B, T, cin), (B, C), (B, T, C)))
    peer = torch.nn.RNN(cin, C, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(torch.from_numpy(part.w.data.T.copy()))
        peer.weight_hh_l0.copy_(torch.from_numpy(part.wh.data.T.copy()))
        peer.bias_ih_l0.zero_()
        peer.bias_hh_l0.zero_()
    tx, th = theirs(x), theirs(h0[None])
    expected, _ = peer(tx, th)
    expected.backward(torch.from_numpy(dout))
    ours, start = Tensor(x, requires_grad=True), Tensor(h0, requires_grad=True)
    out = part(ours, start)
    out.backward(dout)
    close(out.data, expected, 1e-12)
    for mine, yours in ((ours.grad, tx.grad), (start.grad, th.grad[0]),
                        (part.w.grad.T, peer.weight_ih_l0.grad),
                        (part.wh.grad.T, peer.weight_hh_l0.grad),
                        (part.b.grad, peer.bias_ih_l0.grad)):
        close(mine, yours, 1e-10)
