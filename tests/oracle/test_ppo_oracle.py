"""Day 57 · PyTorch's autograd on PPO's loss, the value's error and the log-probabilities."""

import numpy as np
import pytest

from llm.align import ppo
from llm.align.kl import k1, k3
from llm.functions.logps import token_logps, token_logps_vjp
from llm.grad.tensor import Tensor

torch = pytest.importorskip("torch",
                            reason="PyTorch is the oracle here: see requirements-dev.txt")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_token_logps_and_their_gradient_are_those_of_pytorch(rng, dtype, tolerance):
    logits = (4 * rng.standard_normal((3, 5, 17))).astype(dtype)
    targets = rng.integers(17, size=(3, 5))
    targets[rng.random((3, 5)) < .3] = -100
    dout = rng.standard_normal((3, 5)).astype(dtype)
    out, saved = token_logps(logits, targets)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = -torch.nn.functional.cross_entropy(
        theirs.reshape(-1, 17), torch.tensor(targets).reshape(-1), reduction="none",
        ignore_index=-100).reshape(3, 5)
    loss.backward(torch.tensor(dout))
    assert out == pytest.approx(loss.detach().numpy(), abs=tolerance)
    assert token_logps_vjp(dout, *saved)[0] == pytest.approx(theirs.grad.numpy(), abs=tolerance)


@pytest.mark.parametrize("clip", [.1, .2, .5])
def test_the_whole_loss_and_its_gradients_are_those_of_autograd(rng, clip):
    """From logits and values on: log_softmax, ratio, clamp, min, mean, and the squared error."""
    N, T, V = 4, 6, 9
    logits = rng.standard_normal((N, T, V))
    values, returns, advantages = rng.standard_normal((3, N, T))
    targets = rng.integers(V, size=(N, T))
    targets[:, :2] = -100
    old = token_logps(logits, targets)[0] + rng.normal(0, .4, (N, T))
    old[targets == -100] = 0

    ours, our_values = Tensor(logits, requires_grad=True), Tensor(values, requires_grad=True)

    class Given:
        def __call__(self, ids, targets):
            return ppo.answer_logps(ours, targets), our_values

    batch = ppo.Experience(None, targets, old, advantages, returns)
    value, count = ppo.loss(Given(), ppo.PPO(clip=clip, value_weight=.3))(batch)
    value.backward()

    x, v = torch.tensor(logits, requires_grad=True), torch.tensor(values, requires_grad=True)
    counted = torch.tensor(targets) != -100
    chosen = torch.tensor(targets).clamp(min=0)
    logps = torch.log_softmax(x, -1).gather(-1, chosen[..., None])[..., 0]
    ratio = torch.exp(logps - torch.tensor(old))
    A = torch.tensor(advantages)
    objective = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
    loss = -objective[counted].mean() + .15 * ((v - torch.tensor(returns))[counted] ** 2).mean()
    loss.backward()
    assert count == int(counted.sum())
    assert float(value.data) == pytest.approx(loss.item(), abs=1e-12)
    assert ours.grad == pytest.approx(x.grad.numpy(), abs=1e-12)
    assert our_values.grad == pytest.approx(v.grad.numpy(), abs=1e-12)


def test_the_estimators_are_unbiased_for_pytorchs_kl(rng):
    p, q = (torch.distributions.Categorical(logits=torch.tensor(rng.standard_normal(7)))
            for _ in range(2))
    exact = float(torch.distributions.kl_divergence(p, q))
    logp, logq = p.logits.numpy(), q.logits.numpy()
    for estimate in (k1, k3):
        assert float((np.exp(logp) * estimate(logp, logq)).sum()) == pytest.approx(exact)
