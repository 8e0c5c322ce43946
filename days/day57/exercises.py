"""Day 57 · Exercises to build; `python -m days check 57` grades them."""

import itertools

import numpy as np

from llm.functions.logps import IGNORE
from llm.grad import check


def clipped_value():
    """A pair (f, f_vjp): PPO's value loss with the new value held near the old one.

    f(values, old, returns, targets, clip=0.2): all (N, T), float; targets are −100 where nothing
    counts. With v' = old + clip(values − old, −clip, clip) the loss is ½ the mean, over the tokens
    that count, of max((values − returns)², (v' − returns)²); 0 if none counts. Returns (loss,
    saved). f_vjp(dloss, *saved) returns dvalues and three times None. Example, one token, value
    1, old 0, return 0.5, clip 0.2: v' = 0.2, and the first error is the larger: ½·0.25::

        f(np.array([[1.0]]), np.array([[0.0]]), np.array([[0.5]]), np.array([[3]]))[0]   # 0.125

    Where the two errors are equal, the value itself counts.
    """
    raise NotImplementedError


def leave_one_out(scores):
    """Advantages without a value head: each answer's score less the mean of the other answers'.

    scores (P, A): A ≥ 2 answers to each of P prompts. Returns (P, A). The baseline of an answer
    does not depend on that answer, so it does not bias the gradient. Example::

        leave_one_out(np.array([[1.0, 0.0, 2.0]]))          # [[0, -1.5, 1.5]]

    Raises ValueError for A < 2. Source: Kool, van Hoof and Welling (2019), "Buy 4 REINFORCE
    samples, get a baseline for free!".
    """
    raise NotImplementedError


def check_clipped_value(f):
    """The example, loops over random arrays, gradients by finite differences, edges."""
    forward, backward = f()
    one = [np.array([[x]]) for x in (1.0, 0.0, .5)]
    out, saved = forward(*one, np.array([[3]]))
    assert abs(float(out) - .125) < 1e-12, f"the example gives 0.125, not {out}"
    assert isinstance(saved, tuple), "return what the backward needs as a tuple"
    rng = np.random.default_rng(0)
    for clip in (.1, .2, .6):
        values, old, returns = rng.standard_normal((3, 4, 5))
        targets = np.where(rng.random((4, 5)) < .3, IGNORE, 1)
        total = []
        for i in itertools.product(range(4), range(5)):
            if targets[i] != IGNORE:
                held = old[i] + min(max(values[i] - old[i], -clip), clip)
                total.append(max((values[i] - returns[i]) ** 2, (held - returns[i]) ** 2))
        out, _ = forward(values, old, returns, targets, clip=clip)
        assert np.isclose(out, np.mean(total) / 2), f"clip {clip}"
        check.check_pair(forward, backward, values, old, returns, targets, rng=rng, clip=clip,
                         differentiable=[0])
    out, saved = forward(values, old, returns, np.full((4, 5), IGNORE))
    assert out == 0 and not backward(np.float64(1), *saved)[0].any(), "no token: no loss"


def check_leave_one_out(f):
    """The example, loops, and that the sum over a prompt is 0."""
    assert np.allclose(f(np.array([[1.0, 0.0, 2.0]])), [[0, -1.5, 1.5]])
    scores = np.random.default_rng(0).standard_normal((3, 5))
    expected = [[row[i] - np.mean(np.delete(row, i)) for i in range(5)] for row in scores]
    assert np.allclose(f(scores), expected)
    assert not f(np.full((2, 4), .25)).any(), "equal scores: nothing to learn"
    try:
        f(np.ones((2, 1)))
    except ValueError:
        return
    raise AssertionError("one answer has no others: raise ValueError")
