"""Day 50 · The compiled kernel beside PyTorch's own scaled dot-product attention, both passes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle: pip install -r requirements-dev.txt")

from days.day50 import ways  # noqa: E402
from llm.functions import flash  # noqa: E402


@pytest.mark.parametrize(("B", "T", "H", "D"), [(2, 1, 1, 4), (1, 100, 3, 32), (2, 257, 2, 64),
                                               (1, 700, 1, 80)])
def test_out_and_gradients_equal_pytorch(B, T, H, D):
    qkv, dout = ways.inputs(B, T, H, D, seed=T)
    leaf = torch.tensor(qkv, requires_grad=True)
    q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in leaf.chunk(3, dim=-1))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    merged = out.transpose(1, 2).reshape(B, T, H * D)
    merged.backward(torch.tensor(dout))
    mine, gradient = ways.twice(ways.WAYS["flash"], qkv, dout, H)
    np.testing.assert_allclose(mine, merged.detach().numpy(), atol=3e-6)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), atol=2e-5)
    parts = [part.detach().numpy() for part in (q, k, v)]
    np.testing.assert_allclose(flash.flash_attention(*parts, tile=48)[0], out.detach().numpy(),
                               atol=3e-6)
