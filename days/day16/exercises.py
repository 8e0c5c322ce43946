"""Day 16 · Build: a layer of two thin factors put in place, and a mixture of logarithms."""

import numpy as np

from llm.functions.probability import log_softmax
from llm.grad import ops
from llm.grad.tensor import Tensor
from llm.layers.module import Linear, Module
from llm.models.neural_ngram import NeuralNGram


def low_rank(layer, rank):
    """A Module that computes what the Linear `layer` does, with W (Cin, Cout) as a product A B.

    A (Cin, r), B (r, Cout), r = rank ≤ min(Cin, Cout): the best product there is, in the sense of
    the least Σ (W − A B)². Both are trained, and so is the bias, a copy of layer.b; everything has
    the layer's dtype, and training the new one leaves `layer` as it was. Example::

        model.replace("hidden", low_rank(model.hidden, 16))    # returns the old, thick layer
    """
    raise NotImplementedError


def geometric_mix(a, b, weight):
    """ln of the distribution that is proportional to e^(weight · a) · e^((1 − weight) · b).

    a, b (..., V): ln P of every token by two models, all finite, some perhaps −2000; weight from
    0 to 1. Returns (..., V), each row the logarithms of probabilities that sum to 1. Example::

        geometric_mix(np.log([.9, .1]), np.log([.1, .9]), .5)  →  ln [.5, .5]
    """
    raise NotImplementedError


def check_low_rank(f):
    """Full rank, the best possible error at each rank, names, gradients, and replacement."""
    rng = np.random.default_rng(0)
    for dtype, bias in ((np.float64, True), (np.float32, False)):
        layer = Linear(6, 4, rng, bias=bias, dtype=dtype)
        if bias:
            layer.b.data[...] = rng.standard_normal(4)
        x = Tensor(rng.standard_normal((5, 6)).astype(dtype))
        lost = np.linalg.svd(layer.w.data, compute_uv=False)
        for rank in (1, 2, 4):
            thin = f(layer, rank)
            assert isinstance(thin, Module), "only a Module can stand in a layer's place"
            count = thin.count_parameters()
            assert count == rank * (6 + 4) + 4 * bias, f"rank {rank}: {count} numbers are trained"
            kinds = {a.dtype for a in thin.state_dict().values()}
            assert kinds == {np.dtype(dtype)}, f"dtypes {kinds} of a {np.dtype(dtype)} layer"
            product = thin(Tensor(np.eye(6, dtype=dtype))).data - (layer.b.data if bias else 0)
            error = np.sqrt(((layer.w.data - product) ** 2).sum())
            best = np.sqrt((lost[rank:] ** 2).sum())
            assert abs(error - best) < 1e-5, f"rank {rank}: off by {error:.4f}, best {best:.4f}"
        assert np.allclose(thin(x).data, layer(x).data, atol=1e-5), "full rank changes the output"
    model = NeuralNGram(7, 2, 3, 5, rng)
    kept = {path: a.copy() for path, a in model.hidden.state_dict().items()}
    old = model.replace("hidden", f(model.hidden, 2))
    ops.cross_entropy(model(rng.integers(7, size=(9, 2))), rng.integers(7, size=9)).backward()
    for path, p in model.named_parameters().items():
        assert p.grad is not None, f"{path} takes no part in the loss"
        p.data -= p.grad
    for path, array in old.state_dict().items():
        assert np.array_equal(array, kept[path]), f"training the new layer changed the old {path}"


def check_geometric_mix(f):
    """By hand, both ends, sums, brute force, tiny probabilities, and convexity in the weight."""
    assert np.allclose(f(np.log([.9, .1]), np.log([.1, .9]), .5), np.log([.5, .5]))
    assert np.allclose(f(np.log([.8, .2]), np.log([.5, .5]), .5), np.log([2 / 3, 1 / 3])), (
        "√(.8·.5) and √(.2·.5) are as 2 to 1")
    rng = np.random.default_rng(0)
    for shape in ((5,), (3, 7), (2, 3, 4)):
        a, b = (log_softmax(2 * rng.standard_normal(shape)) for _ in range(2))
        assert np.allclose(f(a, b, 1), a) and np.allclose(f(a, b, 0), b), "1 is a alone, 0 is b"
        power = np.exp(a) ** .3 * np.exp(b) ** .7
        assert np.allclose(np.exp(f(a, b, .3)), power / power.sum(axis=-1, keepdims=True))
    a = np.array([[-2000., -4000., 0.], [0., -3000., -3000.]])
    b = np.array([[-2000., 0., -4000.], [-3000., 0., -3000.]])
    found = np.exp(f(a, b, .5))
    assert np.allclose(found, [[1 / 3] * 3, [.5, .5, 0]]), f"equal products share alike: {found}"
    a, b = (log_softmax(3 * rng.standard_normal((50, 6))) for _ in range(2))
    loss = [-f(a, b, w)[:, 0].mean() for w in np.linspace(0, 1, 21)]
    assert (np.diff(loss, 2) > -1e-12).all(), "the loss bends up everywhere, as that of `mix` does"
