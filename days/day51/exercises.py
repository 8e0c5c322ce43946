"""Day 51 · Exercises to build; `python -m days check 51` grades them."""

import numpy as np

from llm.functions.routing import assign
from llm.grad.check import numerical_gradient
from llm.grad.tensor import Tensor
from llm.layers.gated import SwiGLU
from llm.layers.moe import MoE


def expert_choice(scores, capacity):
    """The other way round: each expert chooses its tokens.

    scores (T, N), 1 ≤ capacity ≤ T -> (N, capacity) numbers of the tokens with each expert's
    highest scores, best first; of equal scores the earlier token first. The load is even by
    construction. A token may be chosen by several experts, or by none. Example::

        expert_choice(np.array([[.9, .1], [.8, .2], [.3, .7]]), 1)      # [[0], [2]]

    Source: Zhou et al. (2022), section 3.2.
    """
    raise NotImplementedError


def with_shared(channels, hidden, shared, rng, N, k):
    """A mixture beside one expert that every token uses: MoE(x) + SwiGLU(x).

    Returns a Module with `routed`, an MoE(channels, hidden, …, N, k), and `always`, a
    SwiGLU(channels, shared, …), made in this order. Source: Dai et al. (2024), section 3.2.
    """
    raise NotImplementedError


def check_expert_choice(f):
    """The example, ties, and that every expert is full."""
    rng = np.random.default_rng(0)
    small = np.array([[.9, .1], [.8, .2], [.3, .7]])
    assert np.array_equal(f(small, 1), [[0], [2]])
    assert np.array_equal(f(small, 2), [[0, 1], [2, 1]]), "token 1 is chosen by both"
    assert np.array_equal(f(np.zeros((4, 3)), 2), [[0, 1]] * 3), "ties go to the earlier token"
    many = np.tile([[1.0], [0], [1]], (100, 2))
    assert np.array_equal(f(many, 4)[1], [0, 2, 3, 5]), "ties must not depend on the sort"
    scores = rng.standard_normal((30, 5))
    chosen = f(scores, 7)
    assert chosen.shape == (5, 7) and all(len(set(row)) == 7 for row in chosen.tolist())
    for i, row in enumerate(chosen):
        others = np.delete(scores[:, i], row)
        assert scores[row, i].min() >= others.max() and (np.diff(scores[row, i]) <= 0).all()
    by_tokens = assign(np.argmax(scores, axis=1)[:, None], 5).counts
    assert len(set(by_tokens.tolist())) > 1, "where tokens choose, the load is uneven"


def check_with_shared(f):
    """The sum of both, and gradients to both."""
    module = f(6, 4, 5, np.random.default_rng(1), 4, 2)
    assert isinstance(module.routed, MoE) and isinstance(module.always, SwiGLU)
    assert (module.routed.N, module.routed.k) == (4, 2)
    assert module.always.up.w.shape == (6, 5) and module.routed.experts.up.shape == (4, 6, 4)
    for p in module.named_parameters().values():
        p.data = p.data.astype(np.float64)
    x = Tensor(np.random.default_rng(2).standard_normal((2, 3, 6)))
    assert np.allclose(module(x).data, module.routed(x).data + module.always(x).data)
    module(x).sum().backward()
    for p in (module.always.down.w, module.routed.experts.down, module.routed.router.w):
        numeric = numerical_gradient(lambda _: module(x).data.sum(), p.data)
        assert np.allclose(p.grad, numeric, atol=1e-6)
