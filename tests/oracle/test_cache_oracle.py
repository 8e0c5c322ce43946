"""Day 42 · Llama and GPT-2 of transformers with random weights, read through both caches."""

import numpy as np
import pytest

from llm.generate.architecture import Architecture, check_weights
from llm.generate.cache import KVCache
from llm.generate.decode import decode

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

V, T, C, L, H, D = 23, 16, 24, 2, 6, 4
IDS = np.random.default_rng(1).integers(V, size=T)


def randomise(model):
    """Weights of some size, so that every part matters; in float64."""
    torch.manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model, {name: p.detach().numpy() for name, p in model.state_dict().items()}


def llama(K):
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=C, intermediate_size=20, num_hidden_layers=L,
        num_attention_heads=H, num_key_value_heads=K, head_dim=D, max_position_embeddings=T,
        rms_norm_eps=1e-3, rope_theta=1000.0, tie_word_embeddings=False)
    model, theirs = randomise(transformers.LlamaForCausalLM(config))
    arch = Architecture(V, T, C, L, H, K, D, 20, "rms", 1e-3, 1000.0, "swiglu")
    ours = {"embed": theirs["model.embed_tokens.weight"], "head": theirs["lm_head.weight"].T,
            "norm.gain": theirs["model.norm.weight"]}
    for i in range(L):
        layer = lambda name, i=i: theirs[f"model.layers.{i}.{name}.weight"]
        ours |= {
            f"blocks.{i}.norm1.gain": layer("input_layernorm"),
            f"blocks.{i}.norm2.gain": layer("post_attention_layernorm"),
            f"blocks.{i}.qkv.w": np.concatenate(
                [layer(f"self_attn.{part}_proj") for part in "qkv"]).T,
            f"blocks.{i}.project.w": layer("self_attn.o_proj").T,
            **{f"blocks.{i}.{part}.w": layer(f"mlp.{part}_proj").T
               for part in ("gate", "up", "down")}}
    return model, arch, ours


def gpt2():
    config = transformers.GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H)
    model, theirs = randomise(transformers.GPT2LMHeadModel(config))
    arch = Architecture(V, T, C, L, H, H, D, 4 * C)
    ours = {"embed": theirs["transformer.wte.weight"],
            "positions": theirs["transformer.wpe.weight"],
            "norm.gain": theirs["transformer.ln_f.weight"],
            "norm.bias": theirs["transformer.ln_f.bias"]}
    for i in range(L):
        for our, their in (("qkv", "attn.c_attn"), ("project", "attn.c_proj"),
                           ("up", "mlp.c_fc"), ("down", "mlp.c_proj")):
            for kind, name in (("w", "weight"), ("b", "bias")):
                ours[f"blocks.{i}.{our}.{kind}"] = theirs[f"transformer.h.{i}.{their}.{name}"]
        for j in (1, 2):
            for kind, name in (("gain", "weight"), ("bias", "bias")):
                ours[f"blocks.{i}.norm{j}.{kind}"] = theirs[f"transformer.h.{i}.ln_{j}.{name}"]
    return model, arch, ours


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
@pytest.mark.parametrize("make", [lambda: llama(6), lambda: llama(2), lambda: llama(1), gpt2],
                         ids=["MHA", "GQA", "MQA", "GPT-2"])
@pytest.mark.parametrize("size", [1, 5, T])
def test_the_logits_and_the_cache_are_those_of_transformers(make, size):
    model, arch, weights = make()
    check_weights(arch, weights)
    cache, theirs = KVCache(arch, dtype=np.float64), transformers.DynamicCache()
    for start in range(0, T, size):
        ids = IDS[start:start + size]
        with torch.no_grad():
            expected = model(torch.tensor(ids[None]), past_key_values=theirs, use_cache=True)
        found = decode(arch, weights, ids, cache)
        assert found == pytest.approx(expected.logits[0].numpy(), abs=1e-5)
    for i in range(L):                              # keys after rotation, as they keep them
        layer = theirs.layers[i]
        assert cache.read(i)[0] == pytest.approx(layer.keys[0].numpy(), abs=1e-5)
        assert cache.read(i)[1] == pytest.approx(layer.values[0].numpy(), abs=1e-5)
