"""Day 58 · DPO, IPO and ORPO and their gradients, from the logits on, against PyTorch."""

import numpy as np
import pytest

from llm.align.offline import IGNORE, LOSSES, logps
from llm.grad.tensor import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here: see requirements-dev.txt")
F = torch.nn.functional


def theirs(method, logits, targets, reference, setting):
    """The loss from logits (2N, T, V), with PyTorch's own operations."""
    N = len(targets) // 2
    tokens = -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE,
                              reduction="none").reshape(targets.shape)
    total = tokens.sum(1)
    if method == "orpo":
        mean = total / (targets != IGNORE).sum(1)
        odds = mean - torch.log1p(-mean.exp())
        return (-mean[:N] - setting * F.logsigmoid(odds[:N] - odds[N:])).mean()
    h = (total - reference)[:N] - (total - reference)[N:]
    if method == "dpo":
        return -F.logsigmoid(setting * h).mean()
    return F.mse_loss(h, torch.full_like(h, 1 / (2 * setting)))


@pytest.mark.parametrize("method", LOSSES)
@pytest.mark.parametrize("setting", [.05, .7])
@pytest.mark.parametrize("N, T, V, scale", [(1, 1, 3, 1), (4, 6, 11, 2), (3, 20, 7, 9)])
def test_loss_and_gradient_of_the_logits_equal_pytorchs(method, setting, N, T, V, scale):
    rng = np.random.default_rng(N)
    logits, reference = scale * rng.standard_normal((2 * N, T, V)), -5 * T * rng.random(2 * N)
    targets = np.where(np.arange(T) >= rng.integers(T, size=(2 * N, 1)),
                       rng.integers(V, size=(2 * N, T)), IGNORE)
    z = torch.tensor(logits, requires_grad=True)
    wanted = theirs(method, z, torch.tensor(targets), torch.tensor(reference), setting)
    wanted.backward()

    mine = Tensor(logits, requires_grad=True)
    total = logps(mine, targets).sum(axis=1)
    if method == "orpo":
        mean = total * (1 / (targets != IGNORE).sum(axis=1))
        loss = LOSSES[method](mean[:N], mean[N:], weight=setting)
    else:
        name = {"dpo": "beta", "ipo": "tau"}[method]
        loss = LOSSES[method](total[:N], total[N:], reference[:N], reference[N:],
                              **{name: setting})
    loss.backward()
    assert float(loss.data) == pytest.approx(wanted.item(), rel=1e-10)
    np.testing.assert_allclose(mine.grad, z.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("h", [-100.0, 100.0])
def test_far_margins_equal_pytorchs(h):
    z = torch.tensor([h], dtype=torch.float64, requires_grad=True)
    wanted = -F.logsigmoid(z).mean()
    wanted.backward()
    mine, zero = Tensor(np.array([h]), requires_grad=True), np.zeros(1)
    loss = LOSSES["dpo"](mine, zero, zero, zero, beta=1.0)
    loss.backward()
    assert float(loss.data) == pytest.approx(wanted.item(), rel=1e-12)
    assert mine.grad == pytest.approx(z.grad.numpy(), rel=1e-12)
