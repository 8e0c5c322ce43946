"""Day 54 · Adapters in peft's files: written here and read there, and the other way round."""

import dataclasses

import numpy as np
import pytest

from llm.models.llama import Llama, LlamaConfig
from llm.tune.lora import add_lora, loss_of
from llm.tune.peft_files import load_adapters, save_adapters

torch = pytest.importorskip("torch", reason="pip install -r requirements-dev.txt")
pytest.importorskip("transformers", reason="pip install -r requirements-dev.txt")
peft = pytest.importorskip("peft", reason="pip install -r requirements-dev.txt")

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
CONFIG = LlamaConfig(V=23, T=10, C=24, L=2, H=6, K=2, F=20, eps=1e-3, base=500.0)
IDS = np.random.default_rng(1).integers(23, size=(3, 10))


def models(tied=True):
    """Ours, and transformers' with the same random weights."""
    from experiments.peft_lora import llama
    ours = Llama(dataclasses.replace(CONFIG, tied=tied), np.random.default_rng(0))
    rng = np.random.default_rng(2)
    for p in ours.named_parameters().values():
        p.data += 0.2 * rng.standard_normal(p.shape).astype(np.float32)
    return ours, llama(ours.config, ours.state_dict()).eval()


def logits(theirs):
    with torch.no_grad():
        return theirs(torch.from_numpy(IDS)).logits.numpy()


@pytest.mark.parametrize("rslora, targets", [
    (False, None), (True, None), (False, ("qkv",)), (True, ("project", "down"))])
def test_peft_reads_our_adapters_with_equal_logits(tmp_path, rslora, targets):
    ours, theirs = models()
    adapters = add_lora(ours, 3, 5, np.random.default_rng(3), targets, rslora)
    rng = np.random.default_rng(4)
    plain = logits(theirs)
    np.testing.assert_allclose(ours(IDS).data, plain, rtol=1e-4, atol=1e-4)
    for layer in adapters.values():
        layer.b.data = 0.3 * rng.standard_normal(layer.b.shape).astype(np.float32)
    save_adapters(tmp_path, ours)
    found = logits(peft.PeftModel.from_pretrained(theirs, tmp_path))
    np.testing.assert_allclose(ours(IDS).data, found, rtol=1e-4, atol=1e-4)
    assert np.abs(found - plain).max() > 0.1


@pytest.mark.parametrize("rslora, targets", [
    (False, "all-linear"), (True, ["q_proj", "k_proj", "v_proj", "gate_proj"])])
@pytest.mark.parametrize("tied", [True, False])
def test_we_read_pefts_adapters_with_equal_logits_and_gradients(tmp_path, rslora, targets, tied):
    ours, theirs = models(tied)
    torch.manual_seed(0)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, use_rslora=rslora, init_lora_weights=False,
        task_type="CAUSAL_LM"))
    theirs.save_pretrained(tmp_path)
    adapters = load_adapters(tmp_path, ours)
    found = theirs(torch.from_numpy(IDS)).logits
    np.testing.assert_allclose(ours(IDS).data, found.detach().numpy(), rtol=1e-4, atol=1e-4)
    assert ours.count_parameters() == sum(p.numel() for p in theirs.parameters()
                                          if p.requires_grad)
    targets = np.random.default_rng(5).integers(23, size=IDS.shape)
    torch.nn.functional.cross_entropy(found.flatten(0, 1), torch.from_numpy(
        targets).flatten()).backward()
    loss_of(ours, IDS, targets).backward()
    layer = theirs.base_model.model.model.layers[1].self_attn.k_proj
    qkv = adapters["blocks.1.mix.inner.qkv"]
    for mine, other in ((qkv.a.grad[:, 4:8], layer.lora_A), (qkv.b.grad[:, 24:32], layer.lora_B)):
        right = other["default"].weight.grad.numpy().T
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-4 * np.abs(right).max())
