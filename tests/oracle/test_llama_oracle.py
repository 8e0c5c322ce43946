"""Day 49 · Our Llama against transformers: the same random weights, logits and gradients."""

import numpy as np
import pytest

from llm.models.llama import Llama, LlamaConfig

torch = pytest.importorskip("torch", reason="pip install -r requirements-dev.txt")
transformers = pytest.importorskip("transformers", reason="pip install -r requirements-dev.txt")

V, T, C, L, H, F = 23, 10, 24, 2, 6, 20


def both(K, tied):
    """transformers' model with random weights in float64, and ours with the same ones."""
    config = LlamaConfig(V, T, C, L, H, K, F, eps=1e-3, base=500.0, tied=tied)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L,
        num_attention_heads=H, num_key_value_heads=K, max_position_embeddings=T,
        rms_norm_eps=1e-3, rope_theta=500.0, tie_word_embeddings=tied)).double().eval()
    torch.manual_seed(K)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.2 * torch.randn_like(p))
    ours = Llama(config, np.random.default_rng(0))
    for name, array in renamed(dict(theirs.named_parameters())).items():
        ours_p = ours.named_parameters()[name]
        assert ours_p.shape == array.shape, name
        ours_p.data = array.copy()
    return ours, theirs


def renamed(parameters, value=lambda p: p.detach().numpy()):
    """Their arrays under our names and in our order of axes."""
    get = lambda name: value(parameters[name + ".weight"])
    found = {"embed.table": get("model.embed_tokens"), "norm.gain": get("model.norm")}
    if "lm_head.weight" in parameters:
        found["head.w"] = get("lm_head").T
    for i in range(L):
        mine, layer = f"blocks.{i}.", f"model.layers.{i}."
        found |= {
            mine + "mix.norm.gain": get(layer + "input_layernorm"),
            mine + "mix.inner.qkv.w": np.concatenate(
                [get(f"{layer}self_attn.{part}_proj") for part in "qkv"]).T,
            mine + "mix.inner.project.w": get(layer + "self_attn.o_proj").T,
            mine + "think.norm.gain": get(layer + "post_attention_layernorm"),
            **{f"{mine}think.inner.{part}.w": get(f"{layer}mlp.{part}_proj").T
               for part in ("gate", "up", "down")}}
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("K", [1, 2, 3, 6])
def test_logits_loss_and_all_gradients_equal_transformers(K, tied):
    ours, theirs = both(K, tied)
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(V, size=(3, T)), rng.integers(V, size=(3, T))
    expected = theirs(torch.from_numpy(ids)).logits
    mine = ours(ids).data
    np.testing.assert_allclose(mine, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
    loss = torch.nn.functional.cross_entropy(expected.reshape(-1, V),
                                             torch.from_numpy(targets).reshape(-1))
    loss.backward()
    found = ours.loss(ids, targets)
    found.backward()
    assert float(found.data) == pytest.approx(loss.item(), rel=1e-5)
    right = renamed(dict(theirs.named_parameters()), lambda p: p.grad.numpy())
    for name, p in ours.named_parameters().items():
        np.testing.assert_allclose(p.grad, right[name], rtol=0, err_msg=name,
                                   atol=1e-4 * np.abs(right[name]).max())
