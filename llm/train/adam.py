"""Day 18 · RMSProp, Adam, AdamW: steps scaled by the size of past gradients.

All three keep the same interface: `step(rate)` changes the parameters in place from their `.grad`,
`state_dict()`/`load_state_dict()` carry on a stopped run. In order of increasing complexity.
Left out: groups of parameters with settings of their own, and states in fewer bits.
"""

import numpy as np

from llm.grad.lowering import lowerable
from llm.train.sgd import moments, named, restore


class RMSProp:
    """p ← p − rate · g / (√v + ε), v a running mean of g².  Source: Hinton, lecture 6e (2012)."""

    def __init__(self, parameters, beta=0.99, eps=1e-8):
        self.parameters, self.beta, self.eps = named(parameters), beta, eps
        self.v = moments(self.parameters)

    def step(self, rate):
        """Move every parameter that has a gradient."""
        for name, p in self.parameters.items():
            if p.grad is not None:
                v = self.v[name]
                g = p.grad.astype(v.dtype, copy=False)
                add_square(v, g, self.beta)
                p.data -= rate * g / (np.sqrt(v) + self.eps)

    def state_dict(self):
        """{"v.<name>": array}: the live arrays."""
        return {f"v.{name}": array for name, array in self.v.items()}

    def load_state_dict(self, state):
        """Copy the running means in. Raises ValueError, before any change, if they don't fit."""
        restore(self.state_dict(), state, squares="v.")


def add_square(v, g, beta):
    """v ← βv + (1 − β)g² in place, and at most 2⁻¹⁴ of the largest number of its type.

    A g² that overflows would make v infinite: it would never come down, and ∞ − ∞ is NaN. The
    factor leaves room for the division by 1 − βᵗ, which is 0.001 at first.
    """
    g = g.astype(v.dtype, copy=False)            # float16's squares would end at 65,504
    with np.errstate(over="ignore"):
        v += (1 - beta) * (g * g - v)
    np.minimum(v, np.finfo(v.dtype).max / 2**14, out=v)


@lowerable
def adamw_update(p, g, m, v, t, rate, beta1, beta2, eps, decay):
    """One AdamW step in place; p, g, m, v of one shape, t ≥ 1 counts the steps.

    m ← β₁m + (1−β₁)g          v ← β₂v + (1−β₂)g²
    p ← p(1 − rate·decay) − rate · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε)

    Source: Kingma & Ba (2015), Algorithm 1; Loshchilov & Hutter (2019), Algorithm 2.
    """
    m += (1 - beta1) * (g - m)
    add_square(v, g, beta2)
    p *= 1 - rate * decay
    p -= rate / (1 - beta1**t) * m / (np.sqrt(v / (1 - beta2**t)) + eps)


def matrices(name, p):
    """Decay weight matrices; leave norms, biases and all other vectors, and embeddings."""
    return p.ndim >= 2 and name.split(".")[-1] != "table"


class AdamW:
    """Adam with decoupled weight decay; decay=0 is Adam.

    parameters: {name: Tensor}. decays(name, Tensor) says which are decayed: by default matrices
    that are not embedding tables. Raises ValueError for betas outside [0, 1), eps or decay < 0.
    """

    def __init__(self, parameters, betas=(0.9, 0.999), eps=1e-8, decay=0.01, decays=matrices):
        if not all(0 <= beta < 1 for beta in betas) or eps < 0 or decay < 0:
            raise ValueError(f"betas {betas} must be in [0, 1), eps {eps} and decay {decay} at "
                             "least 0")
        self.parameters = named(parameters)
        self.betas, self.eps = betas, eps
        self.t = dict.fromkeys(self.parameters, 0)      # steps of each, for its bias correction
        self.decay = {name: decay if decays(name, p) else 0.0
                      for name, p in self.parameters.items()}
        self.m, self.v = moments(self.parameters), moments(self.parameters)

    def step(self, rate):
        """Move every parameter that has a gradient, and count the step for those alone."""
        for name, p in self.parameters.items():
            if p.grad is not None:
                self.t[name] += 1
                adamw_update(p.data, p.grad, self.m[name], self.v[name], self.t[name], rate,
                             *self.betas, self.eps, self.decay[name])

    def state_dict(self):
        """{"t": steps of each parameter in order, "m.<name>": array, "v.<name>": array}.

        The moments are the live arrays.
        """
        return {"t": np.array(list(self.t.values())), **{f"m.{n}": a for n, a in self.m.items()},
                **{f"v.{n}": a for n, a in self.v.items()}}

    def load_state_dict(self, state):
        """Copy moments and step in. Raises ValueError, before any change, if they don't fit."""
        steps = np.asarray(state.get("t"))
        if steps.dtype.kind not in "iu" or (steps < 0).any():
            raise ValueError("optimizer state t must count steps: whole numbers, 0 or more")
        if steps.ndim == 0:                             # one count for all, as older files have it
            state = {**state, "t": np.full(len(self.t), steps)}
        restore(self.state_dict(), state, squares="v.")
        self.t = dict(zip(self.t, (int(n) for n in state["t"])))
