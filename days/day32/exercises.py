"""Day 32 · Exercises to build; `python -m days check 32` grades them."""

import itertools

import numpy as np

from llm.grad.tensor import Tensor


def by_path_length(jacobians):
    """Split (I + J_{M−1}) ⋯ (I + J₀) by how many J's a product has, without 2^M products.

    jacobians: [J₀, …, J_{M−1}], each (n, n), first layer first; M ≥ 1.
    Returns (M + 1, n, n): entry k is the sum of all products of k of them, later layers to the
    left. Entry 0 is I, and the entries add up to the whole. At most M(M + 1)/2 products of
    matrices. Example::

        by_path_length([np.array([[0.5]]), np.array([[-0.25]])])   # [[1.0]], [[0.25]], [[-0.125]]
    """
    raise NotImplementedError


def drop_branch(added, rate, rng):
    """Stochastic depth: what a branch adds is dropped as a whole, for each text by its own coin.

    added: a Tensor (B, T, C), the branch's output. rate: probability of dropping, 0 ≤ rate < 1.
    rng: a Generator, or None for evaluation. Returns a Tensor of the same shape and dtype whose
    mean over draws is `added`. Example::

        drop_branch(added, 0.2, None).data is added.data       # True: nothing happens
    """
    raise NotImplementedError


def check_by_path_length(f):
    """The example of the note, all subsets of random matrices, and 18 layers in little time."""
    found = np.asarray(f([np.array([[0.5]]), np.array([[-0.25]])])).ravel()
    assert np.allclose(found, [1, 0.25, -0.125]), found
    rng = np.random.default_rng(0)
    for M, n in ((1, 3), (4, 2), (5, 3)):
        jacobians = list(rng.standard_normal((M, n, n)))
        found = np.asarray(f(jacobians))
        assert found.shape == (M + 1, n, n), f"shape {found.shape}, wanted {(M + 1, n, n)}"
        for k in range(M + 1):
            expected = np.zeros((n, n))
            for some in itertools.combinations(range(M), k):
                part = np.eye(n)
                for i in some:
                    part = jacobians[i] @ part               # later layers to the left
                expected += part
            assert np.allclose(found[k], expected), f"{k} of {M} branches: {found[k]}, {expected}"
    Counted.products = 0
    f([matrix.view(Counted) for matrix in rng.standard_normal((18, 2, 2))])
    assert Counted.products <= 171, f"{Counted.products} products for 18 layers: 171 will do"


class Counted(np.ndarray):
    """A matrix that counts the products it takes part in."""

    products = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            Counted.products += max(result.size // 4, 1)      # a batch of (2, 2) counts each
        return result.view(Counted) if isinstance(result, np.ndarray) else result


def check_drop_branch(f):
    """One coin a text, the mean kept, the same coin for the gradient, nothing in evaluation."""
    rng = np.random.default_rng(0)
    added = Tensor(rng.standard_normal((4000, 2, 3)).astype(np.float32), requires_grad=True)
    assert (f(added, 0.2, None).data == added.data).all(), "without an rng nothing is dropped"
    assert (f(added, 0.0, rng).data == added.data).all(), "at rate 0 nothing is dropped"
    out = f(added, 0.2, rng)
    assert out.shape == added.shape and out.dtype == np.float32, (out.shape, out.dtype)
    factor = out.data / added.data
    assert np.allclose(factor, factor[:, :1, :1]), "a text is dropped as a whole, or not at all"
    share = (factor[:, 0, 0] == 0).mean()
    assert abs(share - 0.2) < 0.03, f"{share:.2f} of the texts were dropped, not 0.2"
    assert np.allclose(factor[factor != 0], 1 / 0.8), "what is kept must keep the mean"
    out.sum().backward()
    assert np.allclose(added.grad, factor), "the gradient must pass the gate of the forward"
    again = [f(added, 0.5, np.random.default_rng(7)).data for _ in range(2)]
    assert (again[0] == again[1]).all(), "all randomness must come from rng"
