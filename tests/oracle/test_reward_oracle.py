"""Day 56 · The loss of a margin and its gradient, against PyTorch and against float64."""

import math

import numpy as np
import pytest

from llm.functions.margins import bradley_terry, bradley_terry_vjp

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here: see requirements-dev.txt")

MARGINS = [-1e4, -100.0, -20.5, -1.0, -1e-6, 0.0, 1e-6, 1.0, 20.5, 80.0, 100.0, 1e4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_and_its_gradient_equal_torchs_log_sigmoid(dtype):
    rng = np.random.default_rng(0)
    for margin in (np.array(MARGINS, dtype), (30 * rng.standard_normal((4, 9))).astype(dtype)):
        theirs = torch.from_numpy(margin).requires_grad_()
        wanted = -torch.nn.functional.logsigmoid(theirs).mean()
        wanted.backward()
        loss, saved = bradley_terry(margin)
        exact = 1e-5 if dtype == np.float32 else 1e-14
        assert float(loss) == pytest.approx(wanted.item(), rel=exact)
        tolerance = 3e-7 if dtype == np.float32 else 1e-15
        assert np.abs(bradley_terry_vjp(1.0, *saved)[0] - theirs.grad.numpy()).max() < tolerance


def test_one_margin_after_the_other_in_float32_equals_float64_computed_otherwise():
    for m in MARGINS:
        exact = -m if m < -40 else math.log1p(math.exp(-m))            # e^m is below 1e-17 there
        slope = -1.0 if m < -40 else -math.exp(-m) / (1 + math.exp(-m))
        loss, saved = bradley_terry(np.array([m], np.float32))
        grad, = bradley_terry_vjp(np.float32(1), *saved)
        assert float(loss) == pytest.approx(exact, rel=1e-6, abs=1e-44)
        assert float(grad[0]) == pytest.approx(slope, rel=1e-6, abs=1e-44)


def test_bradley_terry_is_the_cross_entropy_of_two_rewards():
    """The loss of a pair is day 07's with the two rewards as logits and the chosen one right."""
    rng = np.random.default_rng(1)
    rewards = 5 * rng.standard_normal((50, 2))
    wanted = torch.nn.functional.cross_entropy(torch.from_numpy(rewards),
                                               torch.zeros(50, dtype=torch.long))
    assert float(bradley_terry(rewards[:, 0] - rewards[:, 1])[0]) == pytest.approx(wanted.item())
