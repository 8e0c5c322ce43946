"""Day 56 · Exercises to build; `python -m days check 56` grades them."""

import itertools

import numpy as np

from llm.align.best_of import best_of_n
from llm.functions.margins import bradley_terry
from llm.grad import check


def ranking_loss():
    """A pair (f, f_vjp): the loss of a whole ranking of K answers, by Plackett and Luce.

    f(rewards): rewards (B, K), the best answer of each prompt first. The labeller picks the best
    of all, then the best of the rest, and so on, each time with the probabilities of a softmax:
    −Σₖ ln( e^rₖ / Σ_{j ≥ k} e^rⱼ ). Returns the mean over the B prompts, a scalar of the rewards'
    type, and a tuple for the backward; f_vjp(dout, *saved) returns a tuple with (B, K). Rewards of
    ±10⁴ must work. With K = 2 it is the loss of Bradley and Terry::

        f(np.array([[1.0, 0.0]]))[0]        # 0.3133 = softplus(−1)

    Source: Rafailov and others (2023), appendix A.3, equation 18.
    """
    raise NotImplementedError


def unbiased_kl(p, rewards, n, draws, rng):
    """Estimate KL(best of n ‖ p) from draws alone: never from the distribution of the best.

    p (K,) and rewards (K,), no two equal: draw the best of n `draws` times; the estimate is the
    mean of ln n + (n − 1) ln F of those, where F is the share of p with a reward of at most
    theirs. Return (estimate, its standard error). For many answers it is near ln n − (n − 1)/n.
    Compare with `best_of_n`: is it too high or too low where answers are few?
    """
    raise NotImplementedError


def check_ranking_loss(f):
    """K = 2, every order of three, gradients, and huge rewards."""
    forward, backward = f()
    rng = np.random.default_rng(0)
    rewards = rng.standard_normal((5, 2))
    wanted = bradley_terry(rewards[:, 0] - rewards[:, 1])[0]
    assert np.allclose(forward(rewards)[0], wanted), "K = 2 is Bradley and Terry's loss"
    r = rng.standard_normal(3)
    total = sum(np.exp(-forward(r[None, list(order)])[0])
                for order in itertools.permutations(range(3)))
    assert np.isclose(total, 1), f"the probabilities of all orders sum to {total:.4f}, not 1"
    for shape in ((1, 1), (2, 3), (3, 5)):
        check.check_pair(forward, backward, rng.standard_normal(shape), rng=rng)
    huge = np.array([[1e4, 0, -1e4], [-1e4, 0, 1e4]], np.float32)
    loss, saved = forward(huge)
    assert np.isclose(float(loss), 1.5e4), f"huge rewards: {float(loss)}, not 15000"
    assert np.isfinite(backward(np.float32(1), *saved)[0]).all(), "huge rewards: the gradient"


def check_unbiased_kl(f):
    """n = 1 is 0; many answers; and the bias where they are few is that of the formula."""
    rng = np.random.default_rng(1)
    K = 20_000
    p, rewards = np.full(K, 1 / K), rng.standard_normal(K)
    assert abs(f(p, rewards, 1, 50, rng)[0]) < 1e-12, "the best of one is a draw"
    for n in (2, 16):
        value, error = f(p, rewards, n, 4000, rng)
        assert abs(value - (np.log(n) - (n - 1) / n)) < 5 * error + 1e-3, f"n = {n}: {value:.3f}"
        assert 0 < error < 0.05, f"the standard error of 4,000 draws is not {error}"
    few, r = np.array([.5, .3, .2]), np.array([0., 1., 2.])
    q, F = best_of_n(few, r, 8), np.cumsum(few)
    value, error = f(few, r, 8, 4000, rng)
    assert abs(value - q @ (np.log(8) + 7 * np.log(F))) < 5 * error + 1e-3, "few answers"
