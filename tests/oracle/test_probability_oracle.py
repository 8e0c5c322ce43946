"""Day 07 · softmax, log-softmax, log-sum-exp and cross-entropy against PyTorch."""

import numpy as np
import pytest

from llm.functions.probability import cross_entropy, kl, log_softmax, logsumexp, softmax

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_probabilities_equal_torchs(dtype, tolerance):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(6, 50)) * 10).astype(dtype)
    z[:, 7] = -np.inf
    t = torch.from_numpy(z)
    targets = np.array([1, -100, 3, 49, -100, 0])
    for ours, theirs in [
            (softmax(z), torch.softmax(t, -1)), (log_softmax(z), torch.log_softmax(t, -1)),
            (logsumexp(z), torch.logsumexp(t, -1)),
            (cross_entropy(z, targets),
             torch.nn.functional.cross_entropy(t, torch.from_numpy(targets)))]:
        assert ours.dtype == dtype
        assert ours == pytest.approx(theirs.numpy(), rel=tolerance, abs=tolerance)


def test_kl_equals_torchs():
    p, q = np.random.default_rng(1).dirichlet(np.ones(8), size=(2, 5))
    theirs = torch.distributions.kl_divergence(torch.distributions.Categorical(torch.tensor(p)),
                                               torch.distributions.Categorical(torch.tensor(q)))
    assert kl(p, q) == pytest.approx(theirs.numpy())
