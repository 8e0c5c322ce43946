"""Day 41 · Filters and the repetition penalty against transformers' logits processors."""

import numpy as np
import pytest

from llm.generate.penalties import Penalty
from llm.generate.truncate import min_p, top_k, top_p, typical

torch = pytest.importorskip("torch", reason="the oracle of day 41 needs torch and transformers")
peers = pytest.importorskip("transformers.generation.logits_process",
                            reason="the oracle of day 41 needs transformers")


def theirs(processor, z, so_far=(0,)):
    return processor(torch.tensor([list(so_far)]), torch.tensor(z)[None].clone())[0].numpy()


@pytest.mark.parametrize("V", [3, 50, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_keep_the_same_tokens_as_transformers(V, dtype):
    rng = np.random.default_rng(V)
    for _ in range(30):
        z = (rng.uniform(0.5, 4) * rng.standard_normal(V)).astype(dtype)
        k, p = int(rng.integers(1, V + 1)), float(rng.uniform(0.05, 0.95))
        for ours, peer in ((top_k(z, k), peers.TopKLogitsWarper(k)),
                           (top_p(z, p), peers.TopPLogitsWarper(p)),
                           (min_p(z, p), peers.MinPLogitsWarper(p)),
                           (typical(z, p), peers.TypicalLogitsWarper(p))):
            np.testing.assert_array_equal(ours, theirs(peer, z), err_msg=f"{peer} {k} {p}")


def test_the_repetition_penalty_equals_transformers():
    rng = np.random.default_rng(0)
    for _ in range(30):
        z, so_far = 3 * rng.standard_normal(60).astype(np.float32), rng.integers(0, 60, size=20)
        r = float(rng.uniform(0.5, 2))
        np.testing.assert_allclose(Penalty(repetition=r)(z, so_far),
                                   theirs(peers.RepetitionPenaltyLogitsProcessor(r), z, so_far),
                                   rtol=1e-6)


def test_where_several_tie_for_the_last_place_transformers_keeps_more_than_k():
    z = np.array([1.0, 2, 1, 1])
    assert np.isfinite(theirs(peers.TopKLogitsWarper(2), z)).sum() == 4
    assert np.flatnonzero(np.isfinite(top_k(z, 2))).tolist() == [0, 1]
