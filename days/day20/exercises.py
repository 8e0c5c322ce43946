"""Day 20 · Exercises to build; `python -m days check 20` grades them."""

import numpy as np

from llm.grad import rules
from llm.layers.init import forecast


def critical_gain(activation, layers):
    """The gain at which gradients neither grow nor shrink over `layers` layers, to 1e-4.

    activation: a pair (f, f_vjp). Wanted is the g with forecast(activation, g, layers)[1][0] = 1,
    between 0.5 and 4. Example: √2 for ReLU at any depth, and 1.184 for tanh at 50 layers::

        critical_gain((rules.tanh, rules.tanh_vjp), 50)      # 1.1843…
    """
    raise NotImplementedError


def measured_start(layers, x):
    """Scale each matrix in turn, so that on the data x every layer's output has a chosen size.

    layers: list of (W, f), W (Cin, Cout) float array, f a function of an array; x (N, Cin).
    Returns the list of scaled matrices c W, c > 0, in order; the given ones stay as they are. With
    h the output of the scaled layers before, f(h (c W)) has the mean square 1, to 1e-3. Only where
    f is np.tanh, which stays below 1, the mean square is 0.25. The mean square of f(c z) grows with
    c for every f here. Example::

        measured_start([(W, np.tanh)], x)     # mean(tanh(x @ result[0])²) = 0.25

    Source: after Mishkin & Matas (2016), Algorithm 1, who scale what goes into f.
    """
    raise NotImplementedError


def check_critical_gain(f):
    """ReLU in closed form; tanh and GELU by what `forecast` says at the gain."""
    relu, tanh, gelu = ((rules.relu, rules.relu_vjp), (rules.tanh, rules.tanh_vjp),
                        (rules.gelu, rules.gelu_vjp))
    for activation, layers in ((relu, 30), (relu, 1), (tanh, 50), (tanh, 5), (gelu, 20)):
        gain = f(activation, layers)
        low, high = (forecast(activation, gain + d, layers)[1][0] for d in (-2e-4, 2e-4))
        assert low < 1 < high, f"{activation[0].__name__}, {layers} layers: at gain {gain} the " \
                               f"gradients are not kept"
    assert abs(f(relu, 9) - np.sqrt(2)) < 1e-3, "for ReLU it is √2 at any depth"


def check_measured_start(f):
    """Each output's mean square on data of odd size, with weights of odd size."""
    rng = np.random.default_rng(0)
    x = 7 * rng.standard_normal((200, 12)) + 3
    given = [(9.0 * rng.standard_normal((12, 20)), lambda z: np.maximum(z, 0)),
             (1e-3 * rng.standard_normal((20, 16)), np.tanh),
             (rng.standard_normal((16, 8)), lambda z: z), (rng.standard_normal((8, 8)), np.tanh)]
    kept = [w.copy() for w, _ in given]
    found, h = f(given, x), x
    assert len(found) == len(given)
    for i, ((w, act), scaled) in enumerate(zip(given, found)):
        ratio = scaled.ravel() @ w.ravel() / (w.ravel() @ w.ravel())
        assert ratio > 0 and np.allclose(scaled, ratio * w), f"layer {i}: scaled by one number only"
        h = act(h @ scaled)
        wanted = .25 if act is np.tanh else 1.0
        assert abs(np.mean(h**2) - wanted) < 1e-3, f"layer {i}: mean square {np.mean(h**2):.4f}"
    assert all((w == old).all() for (w, _), old in zip(given, kept)), "leave the given ones alone"
