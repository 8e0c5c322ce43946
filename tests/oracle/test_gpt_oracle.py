"""Day 38 · The same GPT in PyTorch: loss, every gradient, and a run of AdamW steps."""

import numpy as np
import pytest

from llm.models.gpt import GPT, GPTConfig
from llm.train.adam import AdamW, matrices

torch = pytest.importorskip("torch")
peer = pytest.importorskip("experiments.torch_gpt")

CONFIG = GPTConfig(V=17, T=12, C=24, L=3, H=4)


def both(dtype, seed=0, std=0.2):
    """Our model and PyTorch's with the same weights, large enough that every part matters."""
    rng = np.random.default_rng(seed)
    ours = GPT(CONFIG, rng)
    for p in ours.named_parameters().values():
        p.data = (p.data + std * rng.standard_normal(p.shape)).astype(dtype)
    theirs = peer.TorchGPT(CONFIG).to(getattr(torch, np.dtype(dtype).name))
    theirs.load_state_dict(peer.to_torch(ours.state_dict()))
    return ours, theirs, rng


def batch(rng, B=3, T=12):
    return rng.integers(CONFIG.V, size=(B, T)), rng.integers(CONFIG.V, size=(B, T))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize("T", [1, 7, 12])
def test_loss_and_all_gradients_equal_torchs(dtype, tolerance, T):
    ours, theirs, rng = both(dtype)
    ids, targets = batch(rng, T=T)
    targets[0, 0] = -100
    mine = ours.loss(ids, targets)
    other = theirs(torch.from_numpy(ids), torch.from_numpy(targets))
    mine.backward()
    other.backward()
    assert float(mine.data) == pytest.approx(other.item(), rel=tolerance)
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    found = peer.to_torch({name: p.grad for name, p in ours.named_parameters().items()})
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name].numpy(), rtol=0,
                                   atol=tolerance * max(1, float(expected[name].abs().max())),
                                   err_msg=name)


@pytest.mark.parametrize("dtype, steps, tolerance", [(np.float64, 20, 1e-9), (np.float32, 8, 1e-5)])
def test_several_steps_of_adamw_end_at_the_same_weights(dtype, steps, tolerance):
    """In float32 but for the bias of the keys: it adds the same to all scores of a query, so that
    its gradient is 0 and what is computed is rounding, which Adam blows up to whole steps."""
    ours, theirs, rng = both(dtype)
    parameters = ours.named_parameters()
    decayed = {peer.torch_name(name)[0] for name, p in parameters.items() if matrices(name, p)}
    groups = [{"params": [p for name, p in theirs.named_parameters() if (name in decayed) == kind],
               "weight_decay": 0.1 if kind else 0.0} for kind in (True, False)]
    mine, other = AdamW(parameters, decay=0.1), torch.optim.AdamW(groups, lr=1e-3)
    for _ in range(steps):
        ids, targets = batch(rng)
        ours.zero_grad()
        loss = ours.loss(ids, targets)
        loss.backward()
        mine.step(1e-3)
        other.zero_grad()
        expected = theirs(torch.from_numpy(ids), torch.from_numpy(targets))
        expected.backward()
        other.step()
        assert float(loss.data) == pytest.approx(expected.item(), rel=max(tolerance, 1e-6))
    end = theirs.state_dict()
    for name, weights in peer.to_torch(ours.state_dict()).items():
        off = np.abs(weights.numpy() - end[name].numpy())
        if dtype == np.float32 and name.endswith("qkv.bias"):
            off = np.delete(off, slice(CONFIG.C, 2 * CONFIG.C))
        assert off.max() <= tolerance, name
