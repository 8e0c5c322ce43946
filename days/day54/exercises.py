"""Day 54 · Exercises to build; `python -m days check 54` grades them."""

import numpy as np

from llm.functions import lowrank
from llm.grad import check
from llm.tune.nf4 import levels


def thin_pair():
    """A pair (f, f_vjp) of a LoRA layer whose A stays as it was drawn, so that x need not be kept.

    f(x, a, b, weight, scale): x (N, Cin), a (Cin, r), b (r, Cout), weight (Cin, Cout); returns
    x W + scale · (x A) B and, as a tuple, what the backward needs. Nothing of x's size or larger
    may be in that tuple, besides a, b and weight themselves. f_vjp(dout, *saved) returns dx, None,
    db, None, None. Example: with one row of inputs (1, 2), A = (1, 3)ᵀ, B = (2, −1), W = 0 and
    scale 1::

        f(x, a, b, weight, 1)[0]      # [[14, -7]]

    Source: Zhang et al. (2023), LoRA-FA.
    """
    raise NotImplementedError


def better_levels(rng):
    """Sixteen levels that lose less than NF4's on blocks of 64 normal numbers.

    A block is divided by its largest absolute value, and each number goes to the nearest level.
    Returns a float array (16,), ascending, with −1, 0 and 1 among them; its mean squared error on
    fresh blocks is to be at least 2 % below NF4's. rng: for numbers to learn from.
    """
    raise NotImplementedError


def check_thin_pair(f):
    """The same numbers as LoRA, the same gradients for x and B, and little kept."""
    forward, backward = f()
    x, a, b = np.array([[1.0, 2]]), np.array([[1.0], [3]]), np.array([[2.0, -1]])
    assert forward(x, a, b, np.zeros((2, 2)), 1)[0].tolist() == [[14, -7]]
    rng = np.random.default_rng(0)
    for N, cin, r, cout in ((1, 3, 1, 2), (40, 8, 2, 6), (50, 5, 3, 5)):
        x, w = rng.standard_normal((N, cin)), rng.standard_normal((cin, cout))
        a, b = rng.standard_normal((cin, r)), rng.standard_normal((r, cout))
        out, saved = forward(x, a, b, w, 0.7)
        expected, record = lowrank.lora(x, a, b, w, scale=0.7, widths=(cout,))
        assert np.allclose(out, expected), f"N = {N}, r = {r}"
        given = {id(value) for value in (a, b, w)}
        for value in saved:
            if isinstance(value, np.ndarray) and id(value) not in given:
                assert value.size <= N * r, f"an array {value.shape} is kept; x is {x.shape}"
        dout = rng.standard_normal(out.shape)
        dx, da, db, *rest = backward(dout, *saved)
        right = lowrank.lora_vjp(dout, *record)
        assert np.allclose(dx, right[0]), "dx"
        assert np.allclose(db, right[2]), "dB"
        assert da is None and rest == [None, None], "A, W and scale have no gradient"
        check.check_pair(forward, backward, x, a, b, w, 0.7, rng=rng, differentiable=[0, 2])


def check_better_levels(f):
    """Error on fresh blocks, against NF4's on the same ones."""
    found = np.asarray(f(np.random.default_rng(0)), float)
    assert found.shape == (16,), f"shape {found.shape}"
    assert (np.diff(found) > 0).all(), "ascending"
    for level in (-1, 0, 1):
        assert np.abs(found - level).min() < 1e-9, f"{level} is not among them"
    blocks = np.random.default_rng(1).standard_normal((4000, 64))
    blocks /= np.abs(blocks).max(axis=1, keepdims=True)

    def error(steps):
        return ((steps[np.searchsorted((steps[1:] + steps[:-1]) / 2, blocks)] - blocks) ** 2).mean()

    ratio = error(found) / error(levels().astype(float))
    assert ratio < 0.98, f"{ratio:.3f} times NF4's error"
