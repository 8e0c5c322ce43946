"""Day 46 · The distillation loss and its gradient, against PyTorch's KL divergence."""

import numpy as np
import pytest

from llm.functions.distill import distill, distill_vjp

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here: see requirements-dev.txt")


@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (2, 3, 11)])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 4.0])
def test_distillation_equals_torchs(shape, temperature):
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(2, *shape)) * 3
    theirs = torch.from_numpy(z).requires_grad_()
    log_q, log_p = (torch.log_softmax(x.reshape(-1, shape[-1]) / temperature, -1)
                    for x in (theirs, torch.from_numpy(v)))
    wanted = temperature ** 2 * torch.nn.functional.kl_div(log_q, log_p, log_target=True,
                                                           reduction="batchmean")
    wanted.backward()
    loss, saved = distill(z, v, temperature)
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-10)
    assert np.abs(distill_vjp(1.0, *saved)[0] - theirs.grad.numpy()).max() < 1e-12
