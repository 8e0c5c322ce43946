"""Day 48 · Exercises to build; `python -m days check 48` grades them."""

import numpy as np

from llm.functions import gated
from llm.functions.dense import gelu, sigmoid
from llm.grad import check, ops
from llm.grad.tensor import Tensor
from llm.layers.gated import SwiGLU


def partial_rmsnorm():
    """A pair (f, f_vjp) of partial RMSNorm: the scale is estimated from the first k channels.

    f(x, gain, k, eps=1e-5): x (..., C), gain (C,), 1 ≤ k ≤ C; returns x / √(mean(x[..., :k]²) + ε)
    · gain and, as a tuple, what the backward needs. f_vjp(dout, *saved) returns dx, dgain and
    None, since k has no gradient. With k = C it is RMSNorm. Example, k = 1::

        f(np.array([3.0, 4.0]), np.ones(2), 1)[0]      # [1, 1.3333] but for ε

    Source: Zhang & Sennrich (2019), pRMSNorm.
    """
    raise NotImplementedError


def feed_forward(channels, hidden, rng, activation):
    """A gated feed-forward whose gate has another activation: down(activation(gate(x)) · up(x)).

    activation: Tensor -> Tensor, such as ops.gelu (GEGLU), ops.sigmoid (the first GLU), or
    lambda x: x (a "bilinear" layer). Returns a Module with `gate`, `up` and `down` as SwiGLU has.
    Example, with the weights of `part` loaded into it, it equals `part`, a SwiGLU::

        feed_forward(6, 16, rng, ops.silu)
    """
    raise NotImplementedError


def check_partial_rmsnorm(f):
    """Values by the formula, k = C against RMSNorm, gradients by finite differences."""
    forward, backward = f()
    rng = np.random.default_rng(0)
    assert np.allclose(forward(np.array([3.0, 4.0]), np.ones(2), 1)[0], [1, 4 / 3], atol=1e-5)
    for shape, k in (((5,), 2), ((2, 3, 7), 7), ((4, 6), 1), ((4, 6), 4)):
        x, gain = rng.standard_normal(shape) + .3, rng.standard_normal(shape[-1])
        for eps in (1e-5, .3):
            expected = x / np.sqrt((x[..., :k] ** 2).mean(-1, keepdims=True) + eps) * gain
            out, saved = forward(x, gain, k, eps)
            assert np.allclose(out, expected), f"shape {shape}, k = {k}, eps = {eps}"
            assert isinstance(saved, tuple), "return what the backward needs as a tuple"
            check.check_pair(forward, backward, x, gain, k, rng=rng, eps=eps)
    assert np.allclose(forward(x, gain, 6)[0], gated.rmsnorm(x, gain)[0]), "k = C is RMSNorm"


def check_feed_forward(f):
    """Three activations against their formulas, the names, and the gradients."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 5, 6))
    for name, activation, plain in (("GELU", ops.gelu, gelu), ("sigmoid", ops.sigmoid, sigmoid),
                                    ("none", lambda x: x, lambda x: x)):
        module = f(6, 16, rng, activation)
        shapes = {path: p.shape for path, p in module.named_parameters().items()}
        assert shapes == {"gate.w": (6, 16), "up.w": (6, 16), "down.w": (16, 6)}, shapes
        for p in module.named_parameters().values():
            p.data = p.data.astype(np.float64)
        g, u, d = module.gate.w, module.up.w, module.down.w
        expected = (plain(x @ g.data) * (x @ u.data)) @ d.data
        assert np.allclose(module(Tensor(x)).data, expected), name
        module(Tensor(x)).sum().backward()
        numeric = check.numerical_gradient(
            lambda _: module(Tensor(x)).data.sum(), u.data)  # noqa: B023
        assert np.allclose(u.grad, numeric, atol=1e-6), f"{name}: the gradient of up"
    part, module = SwiGLU(6, 16, rng), f(6, 16, rng, ops.silu)
    module.load_state_dict(part.state_dict())
    x = Tensor(x.astype(np.float32))
    assert np.allclose(module(x).data, part(x).data, atol=1e-6), "with SiLU it is SwiGLU"
