"""Day 58 · Exercises to build; `python -m days check 58` grades them."""

import math

import numpy as np

from llm.align.dpo import dpo, dpo_vjp
from llm.grad import check


def smoothed_dpo():
    """A pair (f, f_vjp): DPO for labels of which a share ε is believed to be wrong.

    f(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, eps=0.1): (1 − ε) times DPO's loss plus
    ε times that of the pairs exchanged; all (N,), 0 ≤ ε < ½. f_vjp returns four gradients, the
    last two None. The loss is smallest at h = ln((1 − ε)/ε)/β, so no margin grows for ever.
    Example: at h = 0 it is ln 2 for every ε.
    """
    raise NotImplementedError


def positive_dpo():
    """A pair (f, f_vjp): DPO with a penalty for a chosen answer that falls below its reference.

    f(chosen, rejected, ref_chosen, ref_rejected, beta=0.1, weight=5.0): the mean of
    −ln σ(β(h − weight·max(0, ref_chosen − chosen))), all (N,). f_vjp returns four gradients, the
    last two None; where chosen equals ref_chosen the penalty has no slope.
    Source: Pal et al. (2024), DPO-Positive.
    """
    raise NotImplementedError


def numbers(rng, N):
    """Four arrays (N,) of log-probabilities, no chosen one within 1e-3 of its reference."""
    w, l, rw, rl = -5 * rng.random((4, N))  # noqa: E741
    return w + 2e-3 * np.sign(w - rw), l, rw, rl


def check_smoothed_dpo(f):
    """ε = 0 against DPO, the mixture by its definition, gradients, and where the slope is 0."""
    forward, backward = f()
    rng = np.random.default_rng(0)
    for N in (1, 4):
        w, l, rw, rl = numbers(rng, N)  # noqa: E741
        for eps in (0, .1, .3):
            expected = ((1 - eps) * dpo(w, l, rw, rl, beta=.7)[0]
                        + eps * dpo(l, w, rl, rw, beta=.7)[0])
            assert np.allclose(forward(w, l, rw, rl, beta=.7, eps=eps)[0], expected), f"ε = {eps}"
            check.check_pair(forward, backward, w, l, rw, rl, rng=rng, differentiable=[0, 1],
                             beta=.7, eps=eps)
    zero, h = np.zeros(1), np.array([math.log(9) / .5])
    assert abs(backward(1.0, *forward(h, zero, zero, zero, beta=.5, eps=.1)[1])[0]) < 1e-12, \
        "at h = ln((1 − ε)/ε)/β nothing pulls any more"


def check_positive_dpo(f):
    """The formula by loops, gradients, and DPO where no chosen answer has fallen."""
    forward, backward = f()
    rng = np.random.default_rng(1)
    for N in (1, 5):
        w, l, rw, rl = numbers(rng, N)  # noqa: E741
        terms = [.3 * (w[i] - rw[i] - l[i] + rl[i] - 2 * max(0, rw[i] - w[i])) for i in range(N)]
        expected = sum(math.log1p(math.exp(-t)) for t in terms) / N
        assert np.allclose(forward(w, l, rw, rl, beta=.3, weight=2.0)[0], expected)
        check.check_pair(forward, backward, w, l, rw, rl, rng=rng, differentiable=[0, 1],
                         beta=.3, weight=2.0)
    risen = np.maximum(w, rw)
    assert np.allclose(forward(risen, l, rw, rl)[0], dpo(risen, l, rw, rl)[0])
    same = backward(1.0, *forward(rw, l, rw, rl)[1])[0]
    assert np.allclose(same, dpo_vjp(1.0, *dpo(rw, l, rw, rl)[1])[0]), "no slope at the border"
