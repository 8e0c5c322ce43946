"""Day 21 · Optimizers, a schedule, clipping and norms against PyTorch."""

import numpy as np
import pytest

from llm.grad.tensor import Tensor
from llm.layers.norm import BatchNorm, LayerNorm
from llm.train.adam import AdamW, RMSProp
from llm.train.clip import clip_gradients
from llm.train.muon import Muon
from llm.train.schedule import WarmupCosine
from llm.train.sgd import SGD

torch = pytest.importorskip("torch")

SHAPES = {"w": (4, 3), "b": (3,), "table": (5, 2)}


def walk(ours, theirs, dtype, steps, rate):
    """Both optimizers on the same parameters and gradients; returns both ends."""
    rng = np.random.default_rng(0)
    mine = {n: Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True)
            for n, s in SHAPES.items()}
    peers = {n: torch.nn.Parameter(torch.tensor(p.data.copy())) for n, p in mine.items()}
    ours, theirs = ours(mine), theirs(peers)
    for _ in range(steps):
        for name, shape in SHAPES.items():
            g = (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 3)).astype(dtype)
            mine[name].grad, peers[name].grad = g, torch.tensor(g.copy())
        ours.step(rate)
        theirs.step()
    for name, p in mine.items():
        yield p.data, peers[name].detach().numpy()


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("options", [
    {}, {"betas": (0.8, 0.95)}, {"eps": 1e-3}, {"decay": 0.0}, {"decay": 0.5},
    {"betas": (0.0, 0.5), "eps": 1e-6, "decay": 1.0}])
def test_adamw_equals_torchs_over_many_steps(dtype, tolerance, options):
    decay = options.get("decay", 0.01)
    torchs = {k: v for k, v in options.items() if k != "decay"}
    for mine, peer in walk(
            lambda p: AdamW(p, **options, decays=lambda n, x: True),
            lambda p: torch.optim.AdamW(p.values(), lr=0.02, weight_decay=decay, **torchs),
            dtype, 25, 0.02):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, peer, rtol=tolerance, atol=tolerance)


def test_adamw_decays_the_groups_that_torch_is_told_to():
    for mine, peer in walk(
            lambda p: AdamW(p, decay=0.3),
            lambda p: torch.optim.AdamW([{"params": [p["w"]], "weight_decay": 0.3},
                                         {"params": [p["b"], p["table"]], "weight_decay": 0.0}],
                                        lr=0.05), np.float64, 10, 0.05):
        np.testing.assert_allclose(mine, peer, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}])
def test_sgd_equals_torchs(options):
    for mine, peer in walk(lambda p: SGD(p, **options),
                           lambda p: torch.optim.SGD(p.values(), lr=0.02, **options),
                           np.float64, 25, 0.02):
        np.testing.assert_allclose(mine, peer, rtol=1e-12)


@pytest.mark.parametrize("beta, eps", [(0.99, 1e-8), (0.9, 1e-3)])
def test_rmsprop_equals_torchs_whose_alpha_is_our_beta(beta, eps):
    for mine, peer in walk(lambda p: RMSProp(p, beta=beta, eps=eps),
                           lambda p: torch.optim.RMSprop(p.values(), lr=0.02, alpha=beta, eps=eps),
                           np.float64, 25, 0.02):
        np.testing.assert_allclose(mine, peer, rtol=1e-11)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_cosine_without_warmup_equals_torchs(floor):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=floor)
    ours = WarmupCosine(0.3, 0, floor)
    for step in range(1, 51):                      # torch's rate after `step` calls is ours at it
        optimizer.step()
        peer.step()
        assert ours(step, 50) == pytest.approx(peer.get_last_lr()[0], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("limit", [0.5, 3.0, 1e4])
def test_clipping_equals_torchs(limit):
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(shape) for shape in SHAPES.values()]
    peers = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for g, p in zip(gradients, peers):
        p.grad = torch.tensor(g.copy())
    theirs = torch.nn.utils.clip_grad_norm_(peers, limit)
    assert clip_gradients(gradients, limit) == pytest.approx(float(theirs), rel=1e-12)
    for g, p in zip(gradients, peers):             # torch divides by norm + 1e-6
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-6)


def pair(shape, dtype):
    """The same input for both, and a gradient from above."""
    rng = np.random.default_rng(0)
    x, dout = (3 + 2 * rng.standard_normal((2, *shape))).astype(dtype)
    return x, dout, rng.standard_normal((2, shape[-1])).astype(dtype)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape, eps", [((7, 5), 1e-5), ((2, 3, 8), 1e-3), ((1, 64), 1e-5)])
def test_layernorm_forward_and_backward_equal_torchs(dtype, tolerance, shape, eps):
    x, dout, (gain, bias) = pair(shape, dtype)
    ours, peer = LayerNorm(shape[-1], eps, dtype), torch.nn.LayerNorm(shape[-1], eps)
    peer = peer.to(torch.tensor(x).dtype)
    ours.gain.data[...], ours.bias.data[...] = gain, bias
    with torch.no_grad():
        peer.weight.copy_(torch.tensor(gain))
        peer.bias.copy_(torch.tensor(bias))
    compare(ours, peer, x, dout, tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 5e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_batchnorm_forward_backward_and_running_statistics_equal_torchs(dtype, tolerance,
                                                                        momentum):
    x, dout, (gain, bias) = pair((9, 5), dtype)
    ours = BatchNorm(5, momentum=momentum, dtype=dtype)
    peer = torch.nn.BatchNorm1d(5, momentum=momentum).to(torch.tensor(x).dtype)
    ours.gain.data[...], ours.bias.data[...] = gain, bias
    with torch.no_grad():
        peer.weight.copy_(torch.tensor(gain))
        peer.bias.copy_(torch.tensor(bias))
    for _ in range(3):
        compare(ours, peer, x, dout, tolerance, training=True)
        x = x * 0.5 + 1
    np.testing.assert_allclose(ours.mean, peer.running_mean.numpy(), rtol=tolerance)
    np.testing.assert_allclose(ours.var, peer.running_var.numpy(), rtol=tolerance)
    peer.eval()
    compare(ours, peer, x, dout, tolerance)


def compare(ours, peer, x, dout, tolerance, **options):
    """Outputs and all gradients of one forward and backward."""
    mine, theirs = Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    ours.zero_grad()
    peer.zero_grad()
    out, expected = ours(mine, **options), peer(theirs)
    out.backward(dout)
    expected.backward(torch.tensor(dout))
    for a, b in ((out.data, expected), (mine.grad, theirs.grad),
                 (ours.gain.grad, peer.weight.grad), (ours.bias.grad, peer.bias.grad)):
        assert a.dtype == x.dtype
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with PyTorch 2.9")
@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.8}, {"nesterov": False}, {"decay": 0.5}, {"steps": 3},
    {"coefficients": (15 / 8, -10 / 8, 3 / 8)}])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (5, 5), (1, 6), (40, 24)])
def test_muon_equals_torchs_over_many_steps(shape, options, monkeypatch):
    # Torch iterates in bfloat16 whatever comes in. Without that both agree to float64's digits.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    names = {"decay": "weight_decay", "steps": "ns_steps", "coefficients": "ns_coefficients"}
    torchs = {"weight_decay": 0.01, **{names.get(k, k): v for k, v in options.items()}}
    rng = np.random.default_rng(0)
    mine = Tensor(rng.standard_normal(shape), requires_grad=True)
    peer = torch.nn.Parameter(torch.tensor(mine.data.copy()))
    ours = Muon({"w": mine}, **options)
    theirs = torch.optim.Muon([peer], lr=0.02, adjust_lr_fn="match_rms_adamw", **torchs)
    for _ in range(15):
        g = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3)
        mine.grad, peer.grad = g, torch.tensor(g.copy())
        ours.step(0.02)
        theirs.step()
    np.testing.assert_allclose(mine.data, peer.detach().numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with PyTorch 2.9")
def test_muon_as_torch_ships_it_is_ours_to_the_digits_of_bfloat16():
    rng = np.random.default_rng(0)
    start, g = rng.standard_normal((2, 40, 24)).astype(np.float32)
    mine, peer = Tensor(start.copy(), requires_grad=True), torch.nn.Parameter(torch.tensor(start))
    mine.grad, peer.grad = g, torch.tensor(g)
    Muon({"w": mine}, decay=0.1).step(1.0)
    torch.optim.Muon([peer], lr=1.0, adjust_lr_fn="match_rms_adamw", weight_decay=0.1).step()
    moved, expected = mine.data - 0.9 * start, peer.detach().numpy() - 0.9 * start
    assert np.linalg.norm(moved - expected) < 0.03 * np.linalg.norm(expected)
