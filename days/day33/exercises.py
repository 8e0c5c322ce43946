"""Day 33 · Exercises to build; `python -m days check 33` grades them."""

import numpy as np

from llm.functions.dense import gelu
from llm.grad import ops
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_bytes
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import FeedForward
from llm.layers.norm import LayerNorm


def recall(module, x, n):
    """What a feed-forward says where each token hears only its n strongest memories.

    module: a FeedForward; x (T, C): an array, n: 0 … all memories. Memory j answers token t with
    the vector a[t, j] · v[j], a = activation(up(x)), v[j] = row j of down's weight. The strongest
    are the longest such vectors, chosen for each token by itself. Returns an array (T, C): their
    sum, and down's bias. No gradient is wanted. Example, keys 1 and −1, values 1 and 1::

        recall(module, np.array([[1.0], [-1.0]]), 1)      # [[0.8412], [0.8412]]
    """
    raise NotImplementedError


def parallel_block(norm, mixer, feed_forward):
    """A Module: x (B, T, C) -> x + mixer(y) + feed_forward(y), y = norm(x) computed once.

    Both branches read the same stream, so they can run side by side. The module's parameters are
    those of its three parts. Example, with 12C² + 11C parameters where a block has 12C² + 13C::

        parallel_block(LayerNorm(8), MultiHeadAttention(8, 2, rng), FeedForward(8, rng))
    """
    raise NotImplementedError


def check_recall(f):
    """The hand example, none and all, and random ones against loops."""
    rng = np.random.default_rng(0)
    module = FeedForward(1, rng, ratio=2)
    module.up.w.data, module.down.w.data = np.array([[1.0, -1.0]]), np.array([[1.0], [1.0]])
    found = f(module, np.array([[1.0], [-1.0]]), 1)
    assert isinstance(found, np.ndarray), "return an array, not a Tensor"
    assert np.allclose(found, 0.841192, atol=1e-5), found
    for activation, plain in ((ops.gelu, gelu), (ops.tanh, np.tanh)):
        module = FeedForward(5, rng, activation=activation)
        for layer in (module.up, module.down):
            layer.w.data = layer.w.data * np.exp(rng.standard_normal((len(layer.w.data), 1)))
            layer.b.data = rng.standard_normal(layer.b.shape)
        x = rng.standard_normal((7, 5))
        a = plain(x @ module.up.w.data + module.up.b.data)
        for n in (0, 1, 3, 20):
            expected = np.tile(module.down.b.data, (7, 1)).astype(float)
            for t in range(7):
                answers = [a[t, j] * module.down.w.data[j] for j in range(20)]
                for answer in sorted(answers, key=lambda v: -np.linalg.norm(v))[:n]:
                    expected[t] += answer
            assert np.allclose(f(module, x, n), expected, atol=1e-5), f"n = {n}, {plain.__name__}"
        assert np.allclose(f(module, x, 20), module(Tensor(x)).data), "all of them: the module"


def check_parallel_block(f):
    """Its values, its parameters, their gradients, and that one norm serves both branches."""
    rng = np.random.default_rng(0)
    for B, T, C, H in ((1, 1, 4, 1), (2, 7, 12, 3)):
        parts = LayerNorm(C), MultiHeadAttention(C, H, rng), FeedForward(C, rng)
        for part in parts:
            for p in part.named_parameters().values():
                p.data = p.data + 0.3 * rng.standard_normal(p.shape).astype(np.float32)
        block = f(*parts)
        x = Tensor(rng.standard_normal((B, T, C)).astype(np.float32), requires_grad=True)
        y = parts[0](x)
        expected = x.data + parts[1](y).data + parts[2](y).data
        out = block(x)
        assert np.allclose(out.data, expected, atol=1e-5), "x + mixer(y) + feed_forward(y)"
        assert block.count_parameters() == 12 * C * C + 11 * C, block.count_parameters()
        kept = saved_bytes(out) / (4 * B * T)
        assert kept == 14 * C + H * T + 1, (
            f"it keeps {kept} numbers a token, and one norm for both needs {14 * C + H * T + 1}")
        out.backward(np.ones_like(out.data))
        assert x.grad is not None and all(
            p.grad is not None for p in block.named_parameters().values()), "a part is cut off"
