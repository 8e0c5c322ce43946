"""Day 34 · Exercises to build; `python -m days check 34` grades them."""

import math

import numpy as np

from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig


def log_probability(model, ids):
    """log P(ids[1], …, ids[T] | ids[0]) in nats, a float, from one forward pass.

    model: a GPT. ids: (T + 1,) integers with 1 ≤ T ≤ model.config.T. By the chain rule it is
    the sum over t of log P(ids[t + 1] | ids[0 … t]). No gradient is to be recorded. Example::

        log_probability(model, ids)        # about −T · ln V for an untrained model
    """
    raise NotImplementedError


def add_tokens(model, n, rng):
    """A new GPT with V + n tokens that otherwise computes what `model` does.

    The n new rows of the table are the mean of the old ones; they come last, so that the logits
    of old ids stay. All else is copied; `model` keeps its weights, and the two share no memory.
    rng: for building the new model, whose random weights are overwritten. Example::

        add_tokens(GPT(GPTConfig(V=84), rng), 2, rng).embed.table.shape        # (86, 768)
    """
    raise NotImplementedError


def example(seed, **options):
    """A small model with weights of some size, so that every part matters."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(**{"V": 9, "T": 7, "C": 8, "L": 2, "H": 2, **options}), rng)
    for p in model.named_parameters().values():
        p.data += (0.3 * rng.standard_normal(p.shape)).astype(np.float32)
    return model, rng


def check_log_probability(f):
    """Against one pass for each prefix, and over all texts the probabilities sum to 1."""
    model, rng = example(0)
    for T in (1, 4, 7):
        ids = rng.integers(9, size=T + 1)
        expected = 0.0
        with no_grad():
            for t in range(T):
                z = model(ids[None, :t + 1]).data[0, -1].astype(np.float64)
                expected += z[ids[t + 1]] - math.log(np.exp(z).sum())
        found = f(model, ids)
        assert math.isclose(found, expected, rel_tol=1e-5), (found, expected)
        assert isinstance(found, float), "return a Python float"
    pairs = [f(model, np.array([3, a, b])) for a in range(9) for b in range(9)]
    assert math.isclose(np.exp(pairs).sum(), 1, rel_tol=1e-5), "all continuations together: 1"


def check_add_tokens(f):
    """Old logits stay, new rows are the mean, the head grows along, nothing is shared."""
    for rotary in (False, True):
        model, rng = example(1, rotary=rotary)
        before = {name: array.copy() for name, array in model.state_dict().items()}
        larger = f(model, 3, rng)
        ids = rng.integers(9, size=(2, 7))
        with no_grad():
            old, new = model(ids).data, larger(ids).data
        assert larger.config.V == 12 and new.shape == (2, 7, 12), new.shape
        assert np.allclose(new[..., :9], old, atol=1e-5), "logits of old tokens have changed"
        assert np.allclose(new[..., 9:], old.mean(-1, keepdims=True), atol=1e-5), \
            "a new token's logit should be the mean of the old ones"
        assert larger.embed.table.data.dtype == np.float32
        for p in larger.named_parameters().values():
            p.data += 1
        assert all((model.state_dict()[name] == array).all() for name, array in before.items()), \
            "the old model has changed"
        assert larger.count_parameters() == model.count_parameters() + 3 * 8
