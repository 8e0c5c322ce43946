"""Day 37 · Mixed precision: products on 16-bit numbers, weights in float32, a scaled loss.

    scaler = Scaler()
    with autocast(FP16):
        fit(parameters, scaler.loss(loss, parameters), batches, optimizer, schedule, steps=2000)

The optimizer and the loop stay as they are. 16 bits are emulated: what enters and leaves a chosen
primitive is rounded, and in between it computes in float32, as matrix units do that take halves
and add up in float32. Left out: saving time or memory, which needs kernels that store 16 bits.
Source: Micikevicius et al. (2018), sections 3.1 to 3.3.
"""

import contextlib
import math

import numpy as np

from llm.grad import ops
from llm.grad.lowering import lower, twin_of
from llm.layers.attention import multi_head
from llm.models.gpt import head
from llm.train.halves import BF16, rounded, stochastic

PRODUCTS = (ops.linear, ops.gelu, multi_head, head)
LOWEST, HIGHEST = 2.0**-24, 2.0**24                # between these a scale must stay


@contextlib.contextmanager
def autocast(format, primitives=PRODUCTS):
    """Round what enters and leaves `primitives`, forward and backward, until the block ends.

    The parameters themselves stay float32: each use rounds a copy. All other primitives (norms,
    loss, residual sums) stay float32, and so does the softmax inside attention. A twin that was
    lowered before the block is used, and rounded. float64, as in gradient checks, is let through.
    The backward may run after the block has ended: the tape remembers which VJP to use.
    """
    with lower({p: half_pair(*twin_of(p, p.pair), format) for p in primitives}):
        yield


def half_pair(f, f_vjp, format):
    """The pair (f, f_vjp) with every float32 array rounded on its way in and out."""
    def narrow(x):
        return rounded(x, format) if getattr(x, "dtype", None) == np.float32 else x

    def forward(*inputs, **options):
        out, saved = f(*map(narrow, inputs), **options)
        return narrow(out), saved

    def backward(dout, *saved):
        return tuple(map(narrow, f_vjp(narrow(dout), *saved)))

    return forward, backward


class Scaler:
    """Multiplies the loss by `scale` before the backward and divides the gradients after it.

    scale: a power of two, so that neither rounds. interval: after so many backward passes without
    overflow the scale doubles; None keeps it fixed. After an overflow it halves, and the gradients
    are left infinite or NaN: `fit` skips such a step. Raises ValueError for another scale.
    """

    def __init__(self, scale=2.0**16, interval=2000):
        if interval is not None and interval < 1:
            raise ValueError(f"interval {interval} must be at least 1 backward pass, or None")
        self.scale, self.interval = checked(scale), interval
        self.good = self.overflows = 0              # passes since the last change; overflows ever

    def loss(self, loss, parameters):
        """The function batch -> (value, count) for `fit`, from one that returns (Tensor, count)."""
        def scaled(batch):
            value, count = loss(batch)
            return Scaled(value, self, parameters), count
        return scaled

    def unscale(self, parameters):
        """Divide every .grad by the scale; then adapt the scale. True if all were finite.

        Must come before clipping and before the optimizer, once for each backward pass.
        """
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        finite = all(np.isfinite(g).all() for g in gradients)
        for g in gradients:
            g *= 1 / self.scale
        self.adapt(finite)
        return finite

    def adapt(self, finite):
        """Halve the scale after an overflow; double it after `interval` passes without one.

        Raises FloatingPointError where even the lowest scale overflows.
        """
        self.good = self.good + 1 if finite else 0
        self.overflows += not finite
        if self.interval is None:
            return
        if not finite:
            if self.scale == LOWEST:
                raise FloatingPointError(f"the gradient is not finite even at a scale of {LOWEST}: "
                                         "the forward overflows, or the weights have diverged. Try "
                                         "a lower rate, or bfloat16")
            self.scale /= 2
        elif self.good == self.interval:
            self.scale, self.good = min(2 * self.scale, HIGHEST), 0

    def state_dict(self):
        """{"scale", "good", "overflows"}: what a run needs to go on after a stop."""
        return {"scale": self.scale, "good": self.good, "overflows": self.overflows}

    def load_state_dict(self, state):
        """Carry on. Raises ValueError, before any change, where a number makes no sense."""
        scale, good, overflows = checked(state["scale"]), int(state["good"]), state["overflows"]
        if good < 0 or overflows < 0:
            raise ValueError(f"counts must be at least 0: good {good}, overflows {overflows}")
        self.scale, self.good, self.overflows = scale, good, int(overflows)


def checked(scale):
    """The scale as a float; ValueError unless it is a power of two between the two limits."""
    if not LOWEST <= scale <= HIGHEST or math.frexp(scale)[0] != .5:
        raise ValueError(f"a loss scale is a power of two from 2^-24 to 2^24, not {scale}: another "
                         "factor would round every gradient twice")
    return float(scale)


class Scaled:
    """A loss whose `data` is unscaled and whose `backward` leaves unscaled gradients."""

    def __init__(self, value, scaler, parameters):
        self.value, self.scaler, self.parameters = value, scaler, parameters

    data = property(lambda self: self.value.data)

    def backward(self, grad=None):
        """Add the gradients to what is in .grad, as a Tensor's backward does."""
        before = {name: p.grad for name, p in self.parameters.items()}
        for p in self.parameters.values():
            p.grad = None
        seed = np.ones_like(self.data) if grad is None else np.asarray(grad)
        with np.errstate(over="ignore", invalid="ignore"):      # an overflow is expected, and told
            self.value.backward(seed * seed.dtype.type(self.scaler.scale))
            self.scaler.unscale(self.parameters)
            for name, p in self.parameters.items():
                if before[name] is not None:
                    p.grad = before[name] if p.grad is None else before[name] + p.grad


class HalfWeights:
    """An optimizer around another one, whose weights are bfloat16 after every step.

    rng: round at random (`stochastic`) instead of to the nearest. The update itself is computed in
    float32, moments included. There are no master weights: what rounding takes is lost.
    """

    def __init__(self, optimizer, rng=None):
        self.optimizer, self.rng = optimizer, rng
        self.parameters = optimizer.parameters
        for p in self.parameters.values():
            p.data[...] = rounded(p.data, BF16)

    def step(self, rate):
        """The inner optimizer's step; then every weight is rounded."""
        self.optimizer.step(rate)
        for p in self.parameters.values():
            p.data[...] = (rounded(p.data, BF16) if self.rng is None
                           else stochastic(p.data, self.rng))

    def state_dict(self):
        """The inner optimizer's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        """The inner optimizer's."""
        self.optimizer.load_state_dict(state)
