"""Day 38 · Exercises to build; `python -m days check 38` grades them."""

import math

import numpy as np

from llm.grad import check, ops, rules
from llm.grad.lowering import lower
from llm.grad.tensor import Tensor


def exp_by_parts(x):
    """eˣ for one float, from arithmetic, `math.floor` and `math.ldexp` alone.

    Returns (n, r, eˣ) with x = n·ln 2 + r, |r| ≤ ½ ln 2; eˣ within 1e-7, relatively, of the true
    value. `math.ldexp(a, n)` is a·2ⁿ. Example::

        exp_by_parts(1.0)       # (1, 0.306852…, 2.71828…)
    """
    raise NotImplementedError


def relu_twin():
    """A pair (f, f_vjp) for `lower({ops.relu: …})` that keeps one BIT a number for the backward.

    f(x) → (max(x, 0), saved) and f_vjp(dout, *saved) → (dx,), for float32 and float64 arrays of
    any shape. The reference keeps its whole output, 32 bits a number; `np.packbits` and
    `np.unpackbits` turn eight booleans into one byte and back, (x.size + 7) // 8 bytes in all.
    At 0 the gradient is 0.
    """
    raise NotImplementedError


def check_exp_by_parts(f):
    """The example by hand, then the whole range of float32."""
    n, r, value = f(1.0)
    assert n == 1 and math.isclose(r, 1 - math.log(2), abs_tol=1e-9), (n, r)
    assert math.isclose(value, math.e, rel_tol=1e-7), value
    for x in np.linspace(-87, 88, 1001).tolist():
        n, r, value = f(x)
        assert n == int(n) and math.isclose(n * math.log(2) + r, x, abs_tol=1e-9), (x, n, r)
        assert abs(r) <= 0.5 * math.log(2) + 1e-9, f"at x = {x}, r = {r} is too far from 0"
        assert math.isclose(value, math.exp(x), rel_tol=1e-7), (x, value, math.exp(x))


def check_relu_twin(f):
    """Against the reference over shapes and dtypes, for what it saves, and inside `lower`."""
    pair = f()
    for seed, shape in enumerate([(1,), (7,), (8,), (3, 5), (2, 3, 19), (0, 4)]):
        rng = np.random.default_rng(seed)
        for kind in (np.float32, np.float64):
            x = rng.standard_normal(shape).astype(kind)
            if x.size > 2:
                x.reshape(-1)[1] = 0
            if x.size:
                check.check_twin((rules.relu, rules.relu_vjp), pair, (x,), rng, rtol=1e-6)
            out, saved = pair[0](x)
            dx, = pair[1](np.ones_like(out), *saved)
            assert dx.shape == shape and dx.dtype == kind, (dx.shape, dx.dtype)
            assert np.array_equal(dx, (x > 0).astype(kind)), "at 0 and below the gradient is 0"
            kept = sum(part.nbytes for part in saved if isinstance(part, np.ndarray))
            assert kept <= (x.size + 7) // 8, f"{kept} bytes are kept for {x.size} numbers"
    x = Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    with lower({ops.relu: pair}):
        y = ops.relu(x)
    y.backward(np.array([3.0, 3.0]))
    assert x.grad.tolist() == [0.0, 3.0], x.grad
