"""Day 59 · PyTorch's autograd on the whole loss of GRPO, from logits and rewards on."""

import numpy as np
import pytest

from llm.align import grpo
from llm.align.ppo import answer_logps
from llm.functions.logps import token_logps
from llm.grad.tensor import Tensor

torch = pytest.importorskip("torch",
                            reason="PyTorch is the oracle here: see requirements-dev.txt")


@pytest.mark.parametrize("share", grpo.SHARES)
@pytest.mark.parametrize("baseline, divide", [("group", True), ("others", False)])
@pytest.mark.parametrize("clip, beta", [(.2, 0.0), (.1, .3)])
def test_the_loss_and_its_gradient_are_those_of_autograd(share, baseline, divide, clip, beta):
    rng = np.random.default_rng(0)
    P, G, T, V, n = 3, 4, 6, 9, 5
    N = P * G
    logits = rng.standard_normal((N, T, V))
    targets = rng.integers(V, size=(N, T))
    for row, length in zip(targets, rng.integers(0, 5, size=N)):    # answers of 0 … 4 tokens
        row[:1] = row[1 + length:] = -100
    noise = lambda: np.where(targets == -100, 0, rng.normal(0, .4, (N, T)))
    old = token_logps(logits, targets)[0] + noise()
    reference = token_logps(logits, targets)[0] + noise()
    rewards = rng.integers(2, size=(P, G)).astype(float)
    rewards[0] = 1

    ours = Tensor(logits, requires_grad=True)
    advantages = grpo.group_advantages(rewards, baseline, divide).reshape(-1)
    loss = grpo.surrogate(answer_logps(ours, targets), old, reference, advantages,
                          grpo.token_weights(targets, share, n), clip=clip, beta=beta)
    loss.backward()

    r = torch.tensor(rewards)
    mean = r.mean(1, keepdim=True) if baseline == "group" else (r.sum(1, keepdim=True) - r) / (G-1)
    A = (r - mean) / (r.std(1, keepdim=True, unbiased=False) + 1e-30 if divide else 1)
    A = A.reshape(N, 1)
    x = torch.tensor(logits, requires_grad=True)
    kept = torch.tensor(targets) != -100
    chosen = torch.tensor(targets).clamp(min=0)
    logps = torch.log_softmax(x, -1).gather(-1, chosen[..., None])[..., 0]
    ratio, u = torch.exp(logps - torch.tensor(old)), torch.tensor(reference) - logps
    each = beta * (torch.exp(u) - 1 - u) - torch.minimum(ratio * A,
                                                        ratio.clamp(1 - clip, 1 + clip) * A)
    each = torch.where(kept, each, torch.zeros(()))
    total = {"answer": (each.sum(1) / kept.sum(1).clamp(min=1)).mean(),
             "token": each.sum() / kept.sum(),
             "constant": each.sum() / (N * n)}[share]
    total.backward()
    assert float(loss.data) == pytest.approx(total.item(), abs=1e-12)
    assert ours.grad == pytest.approx(x.grad.numpy(), abs=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("beta", [0.0, .3])
@pytest.mark.parametrize("far", [-100.0, -.5, .5, 100.0])
@pytest.mark.parametrize("A", [-1.0, 1.0])
def test_far_margins_are_finite_and_those_of_autograd(dtype, tolerance, beta, far, A):
    """ln q = far and ln ρ/π = −far, and the other way round, with exp continued by its tangent."""
    def grown(x):
        near = x.clamp(max=20)
        return near.exp() * torch.where(x > 20, 1 + x - 20, torch.ones(()))

    x = torch.tensor([[far, -far]], dtype=dtype, requires_grad=True)
    zero, q = torch.zeros_like(x), grown(x)
    each = beta * (grown(zero - x) - 1 + x) - torch.minimum(q * A, q.clamp(.8, 1.2) * A)
    wanted = (each / 2).sum()
    wanted.backward()
    array = x.detach().numpy()
    out, (slope,) = grpo.objective(array, 0 * array, 0 * array, np.array([A]),
                                   np.full_like(array, .5), beta=beta)
    assert np.isfinite(out) and np.isfinite(slope).all()
    assert float(out) == pytest.approx(wanted.item(), rel=tolerance)
    assert slope == pytest.approx(x.grad.numpy(), rel=tolerance, abs=tolerance)
