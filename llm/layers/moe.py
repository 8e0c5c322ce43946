"""Day 51 · Mixture of experts: N feed-forwards, of which each token uses the k its router chooses.

    x ─┬─▶ router ─▶ softmax ─▶ the k best: gates
       └─▶ to these k experts ─▶ each answer times its gate, added up ─▶

Stands where day 33's Block has its feed-forward. What the last call decided is in `last`: the
balance losses are computed from it, and pictures are drawn from it. Left out: experts on several
machines, and shared experts that every token uses.
"""

import math
from dataclasses import dataclass

import numpy as np

from llm.functions import routing
from llm.grad import ops
from llm.grad.tensor import Tensor, primitive
from llm.layers.gated import swiglu
from llm.layers.module import Linear, Module, parameter

dispatch = primitive(routing.dispatch, routing.dispatch_vjp)
combine = primitive(routing.combine, routing.combine_vjp)
grouped_linear = primitive(routing.grouped_linear, routing.grouped_linear_vjp)
z_loss = primitive(routing.z_loss, routing.z_loss_vjp)


@dataclass(frozen=True)
class Routing:
    """What a router decided for T tokens."""

    logits: Tensor             # (T, N)
    probabilities: Tensor      # (T, N), their softmax
    experts: np.ndarray        # (T, k), best first
    gates: Tensor              # (T, k)
    plan: routing.Dispatch

    @property
    def load(self):
        """f (N,): the share of the kT choices that asked for each expert, before any is dropped."""
        return self.plan.wanted / max(self.experts.size, 1)


class Experts(Module):
    """N feed-forwards without biases: up (N, C, F), down (N, F, C), and gate (N, C, F) if gated.

    Called with rows (M, C) sorted by expert and how many each has. std: of up and gate, 1/√C
    unless given; out_std: of down, 1/√F.
    """

    def __init__(self, N, channels, hidden, rng, gated=True, std=None, out_std=None):
        def matrices(cin, cout, std):
            std = 1 / math.sqrt(cin) if std is None else std
            return parameter((std * rng.standard_normal((N, cin, cout))).astype(np.float32))

        self.gate = matrices(channels, hidden, std) if gated else None
        self.up = matrices(channels, hidden, std)
        self.down = matrices(hidden, channels, out_std)

    def __call__(self, x, counts):
        inner = grouped_linear(x, self.up, counts)
        inner = ops.gelu(inner) if self.gate is None else swiglu(
            grouped_linear(x, self.gate, counts), inner)
        return grouped_linear(inner, self.down, counts)


class MoE(Module):
    """x (..., C) -> (..., C): Σ over its k experts i of gateᵢ · expertᵢ(x), 0 where all are full.

    renormalise: divide the k gates by their sum, so that they add up to 1. capacity: the factor c
    of ⌈c·kT/N⌉ rows that an expert takes at most; None: as many as come. jitter: an rng given to
    the call multiplies what the router sees by uniform numbers of 1 ± jitter. `bias` (N,) is added
    to the probabilities for the choice alone; `rebalance` moves it.
    Raises ValueError unless 1 ≤ k ≤ N and 0 ≤ jitter < 1, and where renormalised gates would leave
    the router without any gradient (k = 1 < N).
    Sources: Shazeer et al. (2017), eq. 1–5; Fedus et al. (2022), eq. 1–3; Jiang et al. (2024), 2.1.
    """

    def __init__(self, channels, hidden, rng, N=8, k=2, renormalise=True, gated=True,
                 capacity=None, jitter=0.0, std=None, out_std=None):
        if not 1 <= k <= N or not 0 <= jitter < 1:
            raise ValueError(f"k = {k} experts of N = {N}, jitter {jitter}: wanted 1 ≤ k ≤ N "
                             "and 0 ≤ jitter < 1")
        if renormalise and k == 1 < N:
            raise ValueError("k = 1 with renormalised gates: every gate is 1, and the router gets "
                             "no gradient. Pass renormalise=False")
        if capacity is not None:
            routing.capacity_of(1, N, k, capacity)                 # says what is wrong with it
        self.N, self.k, self.renormalise = N, k, renormalise
        self.capacity, self.jitter, self.last = capacity, jitter, None
        self.router = Linear(channels, N, rng, bias=False, std=std)
        self.bias = np.zeros(N, np.float32)
        self.experts = Experts(N, channels, hidden, rng, gated, std, out_std)

    def __call__(self, x, rng=None):
        rows = x.reshape(-1, x.shape[-1])                                  # (T, C)
        routed = self.last = self.route(rows, rng)
        answers = self.experts(dispatch(rows, routed.plan), routed.plan.counts)
        return combine(answers, routed.gates, routed.plan).reshape(*x.shape)

    def route(self, rows, rng=None):
        """rows (T, C) -> Routing."""
        T, seen = len(rows.data), rows
        if rng is not None and self.jitter:
            seen = rows * rng.uniform(1 - self.jitter, 1 + self.jitter, rows.shape).astype(
                rows.dtype)
        logits = self.router(seen)                                         # (T, N)
        p = ops.softmax(logits)
        experts = routing.choose(p.data + self.bias, self.k)               # the choice: no gradient
        gates = p[np.arange(T)[:, None], experts]                          # (T, k): it comes here
        if self.renormalise:
            gates = gates / gates.sum(-1).reshape(T, 1)
        limit = None if self.capacity is None else routing.capacity_of(T, self.N, self.k,
                                                                       self.capacity)
        return Routing(logits, p, experts, gates, routing.assign(experts, self.N, limit))

    def balance_loss(self):
        """N · Σᵢ fᵢ · Pᵢ of the last call: 1 where the load is even, N/k where k experts do all.

        f: the load, a constant; P: the mean probability, which carries the gradient.
        Source: Fedus et al. (2022), eq. 4–6, for k = 1.
        """
        routed = self.decided()
        share = routed.load.astype(routed.probabilities.dtype)
        return (routed.probabilities.mean(0) * share).sum() * self.N

    def z_loss(self):
        """See functions.routing.z_loss."""
        return z_loss(self.decided().logits)

    def rebalance(self, speed):
        """After a step: experts with less than the mean load rise by `speed`, others sink.

        Source: Wang et al. (2024), Algorithm 1.
        """
        self.bias += np.float32(speed) * np.sign(1 / self.N - self.decided().load).astype(
            np.float32)

    def decided(self):
        """The Routing of the last call; ValueError where there was none."""
        if self.last is None:
            raise ValueError("this layer has routed nothing yet: call it first")
        return self.last


def count_parameters(channels, hidden, N, k, gated=True):
    """(total, active for one token): the router's C·N, and N or k experts of 2CF, gated 3CF."""
    expert = (3 if gated else 2) * channels * hidden
    return channels * N + N * expert, channels * N + k * expert


def count_flops(channels, hidden, N, k, gated=True):
    """Forward FLOPs of one token: 2 per active weight, and 2kC to add the answers up."""
    return 2 * count_parameters(channels, hidden, N, k, gated)[1] + 2 * k * channels
