"""Day 28 · Attention, forward and backward, against PyTorch's scaled_dot_product_attention."""

import numpy as np
import pytest

from llm.functions.attention import attention, attention_vjp
from llm.functions.causal import causal_attention, causal_attention_rows, causal_attention_vjp

torch = pytest.importorskip("torch")
PRECISIONS = [(np.float32, 2e-5), (np.float64, 1e-12)]


def inputs(dtype, Tq=7, Tk=7, D=5, Dv=3, lead=(2, 3), seed=0):
    """q, k, v and the gradient of the output."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((*lead, *shape)).astype(dtype)
            for shape in ((Tq, D), (Tk, D), (Tk, Dv), (Tq, Dv))]


def theirs(q, k, v, dout, mask=None, causal=False):
    """PyTorch's output and its gradients for q, k and v."""
    arrays = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(
        *arrays, attn_mask=None if mask is None else torch.from_numpy(mask), is_causal=causal)
    out.backward(torch.from_numpy(dout))
    return out.detach().numpy(), *(x.grad.numpy() for x in arrays)


def assert_same(ours, reference, dtype, tolerance):
    for mine, peer in zip(ours, reference, strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, peer, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("Tq, Tk", [(1, 1), (4, 9), (9, 4), (33, 33)])
def test_attention_equals_torchs(dtype, tolerance, Tq, Tk):
    q, k, v, dout = inputs(dtype, Tq, Tk)
    out, saved = attention(q, k, v)
    assert_same([out, *attention_vjp(dout, *saved)], theirs(q, k, v, dout), dtype, tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_masked_attention_equals_torchs(dtype, tolerance):
    q, k, v, dout = inputs(dtype, 6, 8, seed=1)
    visible = np.random.default_rng(2).random((6, 8)) < 0.4
    visible[:, 0] = True
    out, saved = attention(q, k, v, visible)
    assert_same([out, *attention_vjp(dout, *saved)], theirs(q, k, v, dout, visible), dtype,
                tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_biased_attention_equals_torchs(dtype, tolerance):
    q, k, v, dout = inputs(dtype, 6, 8, seed=3)
    bias = np.random.default_rng(4).standard_normal((3, 6, 8)).astype(dtype)
    out, saved = attention(q, k, v, bias=bias)
    reference = theirs(q, k, v, dout, np.broadcast_to(bias, (2, 3, 6, 8)).copy())
    assert_same([out, *attention_vjp(dout, *saved)], reference, dtype, tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("T", [1, 2, 17, 64])
def test_causal_attention_equals_torchs(dtype, tolerance, T):
    q, k, v, dout = inputs(dtype, T, T, seed=5)
    out, saved = causal_attention(q, k, v)
    reference = theirs(q, k, v, dout, causal=True)
    assert_same([out, *causal_attention_vjp(dout, *saved)], reference, dtype, tolerance)
    for block in (1, 4, 100):
        assert_same([causal_attention_rows(q, k, v, block)], reference[:1], dtype, tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_causal_attention_with_a_bias_equals_torchs(dtype, tolerance):
    q, k, v, dout = inputs(dtype, 9, 9, seed=6)
    distance = np.arange(9) - np.arange(9)[:, None]                     # key − query, ≤ 0 visible
    bias = (distance * np.array([0.5, 0.25, 0.125])[:, None, None]).astype(dtype)
    out, saved = causal_attention(q, k, v, bias=bias)
    hidden = np.where(np.tri(9, dtype=bool), bias, -np.inf).astype(dtype)
    reference = theirs(q, k, v, dout, np.broadcast_to(hidden, (2, 3, 9, 9)).copy())
    assert_same([out, *causal_attention_vjp(dout, *saved)], reference, dtype, tolerance)
