"""Day 18 · Muon: the momentum of a matrix, made orthogonal before it becomes a step.

Adam scales each entry by itself. Muon takes the momentum's singular value decomposition U S Vᵀ and
steps by U Vᵀ: every direction that the gradient has, by the same amount. A polynomial in the matrix
does it without the decomposition. Vectors, tables and the head get AdamW's step, at the same rate.
Leaves out: 16-bit products, and matrices split over machines. Where a model keeps the matrices of
query, key and value side by side, they are treated as one.
"""

import math

import numpy as np

from llm.train.adam import AdamW, matrices
from llm.train.sgd import moments, named, restore

COEFFICIENTS = (3.4445, -4.7750, 2.0315)       # Jordan's; `quintic` derives where they come from


def orthogonalize(g, steps=5, coefficients=COEFFICIENTS):
    """U S Vᵀ -> about U Vᵀ, for g (n, m) of any scale; zeros stay zeros. A new array of g's dtype.

    X ← aX + b(XXᵀ)X + c(XXᵀ)²X makes each singular value s as + bs³ + cs⁵ and leaves U and Vᵀ.
    With the default coefficients they end between 0.68 and 1.21 if they were above 0.002 of
    the matrix's norm. With n ≤ m one step takes 4n²m + 2n³ FLOPs. Raises ValueError unless g is
    a matrix. Source: Jordan et al. (2024), "Muon"; Björck & Bowie (1971) for the iteration.
    """
    if g.ndim != 2:
        raise ValueError(f"only a matrix has singular values, not an array of shape {g.shape}: "
                         "give it to AdamW")
    largest = np.abs(g).max(initial=0)
    if largest == 0:
        return np.zeros_like(g)
    x = g / largest                                     # its squares neither overflow nor vanish
    x = x / np.linalg.norm(x)                           # every singular value is now at most 1
    a, b, c = coefficients
    if g.shape[0] > g.shape[1]:
        x = x.T                                         # XXᵀ is the smaller of the two products
    for _ in range(steps):
        gram = x @ x.T                                  # (n, n), n the shorter side
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def quintic(low, high):
    """The (a, b, c) with the largest a for which as + bs³ + cs⁵ keeps [low, high] in itself.

    Besides, no s in [0, high] comes out above high. A larger a lifts small singular values faster.
    The first hump touches high, the dip after it touches low, and high stays where it is. Raises
    ValueError unless 0 < low < high, and where the dip would lie below low. Derived on day 18.
    """
    if not 0 < low < high:
        raise ValueError(f"the band must be 0 < low < high, not {low} and {high}")
    # The derivative is a(1 − s²/x₁)(1 − s²/x₂). Take x₁ = 1 and a = 1 first, and x₂ = r.
    curve = lambda s, r: s - (1 + 1 / r) * s**3 / 3 + s**5 / (5 * r)
    r = bisect(lambda r: curve(1, r) * low - curve(math.sqrt(r), r) * high, 1, 5)
    tall = high / curve(1, r)                           # times as tall: the hump is at high
    narrow = bisect(lambda t: tall * curve(t, r) - high, math.sqrt(r), 3) / high
    if math.sqrt(r) / narrow < low:
        raise ValueError(f"low {low} is too near to high {high}, or too far from it: the dip lies "
                         "outside the band")
    return (tall * narrow, -tall * narrow**3 * (1 + 1 / r) / 3, tall * narrow**5 / (5 * r))


def bisect(f, low, high):
    """Where f, which is below 0 at low and above 0 at high, is 0: by 60 halvings."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return low


def muon_update(p, g, m, rate, momentum, nesterov, decay, steps, coefficients):
    """One step of Muon in place on the matrix p (n, m), its gradient g and its momentum.

    m ← μm + (1−μ)g       p ← p(1 − rate·decay) − rate · 0.2√max(n, m) · orthogonalize(…)

    of m, or with nesterov of (1−μ)g + μm. An orthogonal matrix has the root mean square
    1/√max(n, m), so all entries move by about 0.2 rates, which is what AdamW's do: one rate
    serves both. Source: Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2.
    """
    m *= momentum
    m += (1 - momentum) * g
    ahead = (1 - momentum) * g + momentum * m if nesterov else m
    p *= 1 - rate * decay
    p -= rate * 0.2 * math.sqrt(max(p.shape)) * orthogonalize(ahead, steps, coefficients)


def hidden(name, p):
    """Muon's share: matrices between the embedding and the head, which are both left to AdamW."""
    return p.ndim == 2 and not f".{name}".endswith((".table", ".out.w", ".head.w"))


class Muon:
    """Muon for the hidden matrices, AdamW for all else; step(rate) as every optimizer has it.

    parameters: {name: Tensor}. orthogonal(name, Tensor) says which are Muon's, decays(name,
    Tensor) which are decayed; betas and eps are AdamW's. Raises ValueError for a momentum outside
    [0, 1), steps < 1, options that AdamW refuses, or where `orthogonal` picks what is no matrix.
    """

    def __init__(self, parameters, momentum=0.95, nesterov=True, betas=(0.9, 0.999), eps=1e-8,
                 decay=0.01, decays=matrices, orthogonal=hidden, steps=5,
                 coefficients=COEFFICIENTS):
        if not 0 <= momentum < 1 or steps < 1:
            raise ValueError(f"momentum {momentum} must be in [0, 1) and steps {steps} at least 1")
        self.parameters = named(parameters)
        matrix = {n: p for n, p in self.parameters.items() if orthogonal(n, p)}
        if odd := [f"{n} {p.shape}" for n, p in matrix.items() if p.ndim != 2]:
            raise ValueError(f"Muon is for matrices, and was given {', '.join(odd)}")
        self.options = momentum, nesterov
        self.iteration = steps, coefficients
        self.decay = AdamW(self.parameters, betas, eps, decay, decays).decay
        others = {n: p for n, p in self.parameters.items() if n not in matrix}
        self.rest = AdamW(others, betas, eps, decay, decays) if others else None
        self.m = moments(matrix)

    def step(self, rate):
        """Move every parameter that has a gradient."""
        for name, m in self.m.items():
            p = self.parameters[name]
            if p.grad is not None:
                muon_update(p.data, p.grad, m, rate, *self.options, self.decay[name],
                            *self.iteration)
        if self.rest:
            self.rest.step(rate)

    def state_dict(self):
        """{"momentum.<name>": array} of the matrices, and AdamW's state: the live arrays."""
        return {**{f"momentum.{n}": a for n, a in self.m.items()},
                **(self.rest.state_dict() if self.rest else {})}

    def load_state_dict(self, state):
        """Copy momentum, moments and counts in.

        Raises ValueError, before any change, if they don't fit.
        """
        mine = {key: a for key, a in state.items() if key.startswith("momentum.")}
        others = {key: a for key, a in state.items() if key not in mine}
        live = {f"momentum.{n}": a for n, a in self.m.items()}
        restore({key: a.copy() for key, a in live.items()}, mine)          # a rehearsal
        if self.rest:
            self.rest.load_state_dict(others)
        else:
            restore({}, others)
        restore(live, mine)
