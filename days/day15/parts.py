"""Day 15 · The model of the run, its memory and its slope, and what the tape costs in time."""

import time
import tracemalloc

import numpy as np

from llm.grad import ops, rules, tensor
from llm.grad.check import numerical_gradient
from llm.grad.memory import watching
from llm.grad.tensor import Tensor

T, C, L = 16, 32, 4
USED = [ops.embedding, tensor.reshape, ops.linear, ops.gelu, tensor.add, ops.cross_entropy]


def leaves(arrays):
    return {name: Tensor(a, requires_grad=True) for name, a in arrays.items()}


def loss(p, ids, targets):
    """Day 11's window model and L hidden layers more, each added to what was there: mean nats."""
    x = ops.embedding(p["table"], ids).reshape(len(ids), T * C)
    h = ops.gelu(ops.linear(x, p["w1"], p["b1"]))
    for block in range(L):
        h = h + ops.gelu(ops.linear(h, p[f"w{block} more"], p[f"b{block} more"]))
    return ops.cross_entropy(ops.linear(h, p["w2"], p["b2"]), targets)


def memory(arrays, batch):
    """The curve over all operations, and MB after forward, at the peak, after backward."""
    loss(leaves(arrays), *batch).backward()        # what Python allocates once is not counted
    parameters = leaves(arrays)
    with watching(USED) as log:
        result = loss(parameters, *batch)
        after_forward = tracemalloc.get_traced_memory()[0]
        result.backward()
        after_backward = tracemalloc.get_traced_memory()[0]
    curve = [[name, way, now / 1e6, most / 1e6] for name, way, now, most in log]
    return curve, after_forward / 1e6, max(row[3] for row in curve), after_backward / 1e6


def slope_error(arrays, batch, rng):
    """The tape's slope along a random direction against central differences of the whole model."""
    exact = {name: a.astype(np.float64) for name, a in arrays.items()}
    way = {name: rng.standard_normal(a.shape) / 100 for name, a in exact.items()}
    parameters = leaves(exact)
    loss(parameters, *batch).backward()
    slope = sum(np.sum(parameters[name].grad * way[name]) for name in exact)
    moved = lambda t: leaves({name: a + t * way[name] for name, a in exact.items()})
    measured = numerical_gradient(lambda t: float(loss(moved(t[0]), *batch).data), np.zeros(1))[0]
    return float(abs(measured / slope - 1))


def product(x, c, count=100):
    for _ in range(count):
        x = x * c
    return x


def microseconds(n, repeats, rng):
    """[n, µs of a product of n numbers and its VJP by plain calls of the pair, on the tape]."""
    x, c = (rng.standard_normal((2, n)) / 10 + 1).astype(np.float32)
    leaf, fixed, dout, count = Tensor(x, requires_grad=True), Tensor(c), np.ones_like(x), 20

    def plain():
        out, record, d = x, [], dout
        for _ in range(count):
            out, saved = rules.mul(out, c)
            record.append(saved)
        while record:
            d, _ = rules.mul_vjp(d, *record.pop())

    tape = lambda: product(leaf, fixed, count).backward(dout)
    return [n, *(1e6 * seconds / count for seconds in fastest([plain, tape], repeats))]


def fastest(calls, repeats):
    """Seconds of the fastest of several interleaved runs: those that nothing else disturbed."""
    seconds = []
    for call in calls * repeats:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return [min(seconds[k::len(calls)]) for k in range(len(calls))]
