"""Day 33 · Attention, the block and its gradients against PyTorch; rotary in complex float64."""

import numpy as np
import pytest

from llm.functions.heads import multi_head
from llm.grad.tensor import Tensor
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward
from llm.layers.norm import LayerNorm
from llm.layers.positions import ALiBi
from llm.layers.residual import Residual
from llm.layers.rotary import Rotary

torch = pytest.importorskip("torch")


def theirs(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def close(ours, torchs, tolerance):
    assert np.abs(ours - torchs.detach().numpy()).max() < tolerance


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("B, T, H, D", [(2, 9, 3, 4), (1, 1, 2, 8), (3, 33, 4, 16)])
def test_attention_equals_torchs(B, T, H, D, dtype, tolerance):
    rng, C = np.random.default_rng(0), H * D
    ours = MultiHeadAttention(C, H, rng)
    for p in ours.named_parameters().values():
        p.data = (p.data + 0.1 * rng.standard_normal(p.shape)).astype(dtype)
    peer = torch.nn.MultiheadAttention(C, H, batch_first=True).to(theirs(np.zeros(1, dtype)).dtype)
    peer.load_state_dict({"in_proj_weight": theirs(ours.qkv.w.data.T),
                          "in_proj_bias": theirs(ours.qkv.b.data),
                          "out_proj.weight": theirs(ours.project.w.data.T),
                          "out_proj.bias": theirs(ours.project.b.data)})
    x = rng.standard_normal((B, T, C)).astype(dtype)
    hidden = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    out = ours(Tensor(x)).data
    assert out.dtype == dtype
    close(out, peer(theirs(x), theirs(x), theirs(x), attn_mask=hidden)[0], tolerance)


@pytest.mark.parametrize("pre", [True, False])
def test_the_block_and_all_its_gradients_equal_torchs(pre):
    rng, C, H, T = np.random.default_rng(1), 16, 4, 12
    ours = Block(LayerNorm(C), MultiHeadAttention(C, H, rng), LayerNorm(C), FeedForward(C, rng))
    if not pre:
        ours.mix = Residual(ours.mix.inner, ours.mix.norm, pre=False)
        ours.think = Residual(ours.think.inner, ours.think.norm, pre=False)
    for p in ours.named_parameters().values():
        p.data = p.data.astype(np.float64) + 0.1 * rng.standard_normal(p.shape)
    gelu = torch.nn.GELU(approximate="tanh")
    peer = torch.nn.TransformerEncoderLayer(C, H, 4 * C, 0.0, gelu, batch_first=True,
                                            norm_first=pre).double()
    names = {"self_attn.in_proj_": "mix.inner.qkv.", "self_attn.out_proj.": "mix.inner.project.",
             "linear1.": "think.inner.up.", "linear2.": "think.inner.down.",
             "norm1.": "mix.norm.", "norm2.": "think.norm."}

    def our_name(name):
        start = next(part for part in names if name.startswith(part))
        kinds = {"weight": "gain", "bias": "bias"} if "norm" in start else {
            "weight": "w", "bias": "b"}
        return names[start] + kinds[name.removeprefix(start)]

    mine = ours.named_parameters()
    peer.load_state_dict({name: theirs(mine[our_name(name)].data.T)
                          for name, _ in peer.named_parameters()})
    data, dout = rng.standard_normal((2, 2, T, C))
    x, y = Tensor(data, requires_grad=True), theirs(data).requires_grad_()
    out = ours(x)
    peers = peer(y, src_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), 1))
    close(out.data, peers, 1e-12)
    out.backward(dout)
    peers.backward(theirs(dout))
    close(x.grad, y.grad, 1e-11)
    for name, p in peer.named_parameters():
        close(mine[our_name(name)].grad.T, p.grad, 1e-10)


@pytest.mark.parametrize("interleaved", [False, True])
def test_attention_with_rotary_equals_complex_numbers_and_torchs_attention(interleaved):
    rng, (B, T, H, D) = np.random.default_rng(2), (2, 10, 3, 8)
    qkv = rng.standard_normal((B, T, 3 * H * D))
    q, k, v = (theirs(part.reshape(B, T, H, D).transpose(0, 2, 1, 3))
               for part in np.split(qkv, 3, axis=-1))
    phase = torch.polar(torch.ones(T, D // 2, dtype=torch.float64), torch.outer(
        torch.arange(T, dtype=torch.float64),
        10000 ** (-2 * torch.arange(D // 2, dtype=torch.float64) / D)))

    def turn(x):
        if not interleaved:                                  # pair i is channels i and i + D/2
            x = x.unflatten(-1, (2, D // 2)).transpose(-1, -2).flatten(-2)
        z = torch.view_as_complex(x.unflatten(-1, (D // 2, 2)).contiguous())
        return torch.view_as_real(z * phase).flatten(-2)     # one order for q and k will do

    out = torch.nn.functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
    ours, _ = multi_head(qkv, H, Rotary(D, 16, interleaved=interleaved))
    close(ours, out.transpose(1, 2).flatten(-2), 1e-13)


def test_attention_with_alibi_equals_torchs_attention_with_that_bias():
    rng, (B, T, H, D) = np.random.default_rng(3), (2, 11, 8, 4)
    qkv = rng.standard_normal((B, T, 3 * H * D))
    q, k, v = (theirs(part.reshape(B, T, H, D).transpose(0, 2, 1, 3))
               for part in np.split(qkv, 3, axis=-1))
    distance = torch.arange(T)[:, None] - torch.arange(T)[None]
    slopes = torch.tensor([2.0**-h for h in range(1, 9)], dtype=torch.float64)
    bias = (-slopes[:, None, None] * distance).masked_fill(distance < 0, -torch.inf)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    close(multi_head(qkv, H, ALiBi(H))[0], out.transpose(1, 2).flatten(-2), 1e-13)
