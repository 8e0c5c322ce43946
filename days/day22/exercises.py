"""Day 22 · Exercises to build; `python -m days check 22` grades them."""

import numpy as np

from llm.models.gru import RecurrentLM


def scan(u, v):
    """All states of h_t = u_t ⊙ h_{t−1} + v_t, from h = 0, in about log₂ T rounds and not T.

    u, v (B, T, C) float -> (B, T, C). No Python loop over the tokens: at most ⌈log₂ T⌉ rounds, each
    on whole arrays. This is a GRU whose gate and candidate do not read the state. Example::

        scan(np.full((1, 3, 1), .5), np.ones((1, 3, 1)))       # [[[1], [1.5], [1.75]]]
    """
    raise NotImplementedError


def scheduled(model, ids, share, rng):
    """Inputs for scheduled sampling: some of the real tokens give way to the model's own draws.

    ids (B, T) -> (B, T) of the same integer type. Column 0 stays. Each later token ids[:, t] is
    replaced with probability `share` by a token drawn from the model's distribution after the
    *new* inputs up to t − 1. model: a RecurrentLM. ids itself must not change.

    Source: S. Bengio et al. (2015), section 2.4.
    """
    raise NotImplementedError


def check_scan(f):
    """Against the loop, for lengths around powers of two; and the number of passes by time."""
    rng = np.random.default_rng(0)
    out = f(np.full((1, 3, 1), .5), np.ones((1, 3, 1)))
    assert np.allclose(out[0, :, 0], [1, 1.5, 1.75]), out[0, :, 0]
    for T in (1, 2, 3, 4, 7, 8, 9, 33):
        u, v = rng.uniform(0, 1, (2, T, 3)), rng.standard_normal((2, T, 3))
        kept = u.copy(), v.copy()
        h, expected = np.zeros((2, 3)), np.empty((2, T, 3))
        for t in range(T):
            expected[:, t] = h = u[:, t] * h + v[:, t]
        assert np.allclose(f(u, v), expected), f"T = {T}"
        assert (u == kept[0]).all() and (v == kept[1]).all(), "work on copies"

    class Counted(np.ndarray):
        """An array that counts the operations on it."""
        calls = 0

        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
            Counted.calls += 1
            plain = [np.asarray(a) for a in inputs]
            if out is not None:
                options["out"] = tuple(np.asarray(a) for a in out)
            return getattr(ufunc, method)(*plain, **options).view(Counted)

    f(rng.uniform(0, 1, (1, 1024, 2)).view(Counted), rng.standard_normal((1, 1024, 2)))
    assert Counted.calls <= 60, f"{Counted.calls} operations for T = 1024: is there a loop over t?"


def check_scheduled(f):
    """Share 0 and 1, the rate of replacement, and that draws follow the new inputs."""
    rng = np.random.default_rng(1)
    model = RecurrentLM(9, 6, 1, rng)
    model.head.w.data *= 30                                      # a model with opinions
    ids = rng.integers(9, size=(300, 6))
    kept = ids.copy()
    assert (f(model, ids, 0.0, rng) == ids).all(), "share 0 changes nothing"
    free = f(model, ids, 1.0, np.random.default_rng(2))
    assert free.shape == ids.shape and free.dtype == ids.dtype
    assert (free[:, 0] == ids[:, 0]).all(), "the first token stays"
    assert (ids == kept).all(), "ids must not change"
    logits = model(free)[0].data.astype(float)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    own = -np.take_along_axis(logp[:, :-1], free[:, 1:, None], -1).mean()
    entropy = -(np.exp(logp[:, :-1]) * logp[:, :-1]).sum(-1).mean()
    assert abs(own - entropy) < .1, f"own tokens cost {own:.2f} nats, expected {entropy:.2f}"
    changed = (f(model, ids, .5, rng)[:, 1:] != ids[:, 1:]).mean()
    every = (free[:, 1:] != ids[:, 1:]).mean()
    assert abs(changed - every / 2) < .08, "about half as many changes at share .5"
