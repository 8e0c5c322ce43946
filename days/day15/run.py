"""Day 15 · What a tape keeps in memory, operation by operation, and what it costs in time."""

import time
import tracemalloc
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, save, say
from llm.data.text import load_or_default
from llm.grad import ops, rules, tensor
from llm.grad.check import numerical_gradient
from llm.grad.memory import watching
from llm.grad.scalar import Value
from llm.grad.tensor import Tensor
from llm.grad.walk import saved_by_operation
from llm.models import window
from llm.tokens.chars import CharTokenizer

T, C, L = 16, 32, 4
USED = [ops.embedding, tensor.reshape, ops.linear, ops.gelu, tensor.add, ops.cross_entropy]


@dataclass(frozen=True)
class Result:
    corpus: str
    sizes: dict            # B, T, C, H, L, V, parameters
    kept: list             # rows: operation, bytes kept by formula, bytes counted on the tape
    curve: list            # rows: operation, direction, MB after it, most MB during it
    after_forward: float   # MB allocated, without parameters and batch
    peak: float            # MB
    after_backward: float  # MB
    gradients: float       # MB of all parameters' gradients
    slope_error: float     # relative, of the tape's slope along a direction, in float64
    overhead: list         # rows: numbers, µs of a product and its VJP: plain calls, on the tape
    scalar: float          # µs of the same for one number on day 13's tape


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.train[:200_000]).astype(np.int64)
    B, H, V = 128 if fast else 512, 256 if fast else 512, tokenizer.vocab_size
    contexts, targets = window.windows(ids, T)
    rows = rng.integers(len(targets), size=B)
    batch = contexts[rows], targets[rows]
    arrays = window.init(V, T, C, H, rng)
    for block in range(L):
        arrays[f"w{block} more"] = (rng.standard_normal((H, H)) / H**0.5).astype(np.float32)
        arrays[f"b{block} more"] = np.zeros(H, np.float32)
    sizes = {"B": B, "T": T, "C": C, "H": H, "L": L, "V": V,
             "parameters": sum(a.size for a in arrays.values())}
    formula = {"embedding": 8 * B * T, "reshape": 0, "linear": 4 * B * (T * C + (L + 1) * H),
               "gelu": 4 * B * H * (L + 1), "add": 0, "cross_entropy": 4 * B * V + 9 * B}
    counted = saved_by_operation(loss(leaves(arrays), *batch))
    kept = [[name, formula[name], counted[name]] for name in counted]
    numbers = [1, 100, 10_000] if fast else [1, 10, 100, 1000, 10_000, 100_000]
    overhead = [microseconds(n, 5 if fast else 60, rng) for n in numbers]
    scalar = 1e4 * fastest([lambda: product(Value(1.0), Value(1.0)).backward()], 15)[0]
    return Result(corpus.name, sizes, kept, *memory(arrays, batch),
                  sum(a.nbytes for a in arrays.values()) / 1e6,
                  slope_error(arrays, batch, rng), overhead, scalar)


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


def table(result):
    rows = [["operation", "kept by formula, bytes", "counted on the tape"]]
    rows += [[name, f"{formula:,}", f"{counted:,}"] for name, formula, counted in result.kept]
    return [*rows, ["together", *(f"{sum(row[k] for row in result.kept):,}" for k in (1, 2))]]


def show(result):
    print_table(table(result), "kept from forward to backward, besides parameters")
    rows = [["MB", "after forward", "at the peak", "after backward", "all gradients"]]
    rows.append(["measured", *(f"{mb:.2f}" for mb in (
        result.after_forward, result.peak, result.after_backward, result.gradients))])
    print_table(rows)
    rows = [["numbers", "plain calls, µs", "tape, µs", "the tape adds, µs"]]
    rows += [[f"{n:,}", f"{plain:.2f}", f"{tape:.2f}", f"{tape - plain:.2f}"]
             for n, plain, tape in result.overhead]
    print_table(rows, "a product of n numbers and its VJP")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.2), width_ratios=(1.25, 1))
    x = np.arange(1, len(result.curve) + 1)
    now, most = (np.array([row[k] for row in result.curve]) for k in (2, 3))
    turn = sum(row[1] == "forward" for row in result.curve)
    left.vlines(x, now, most, color="0.8", lw=1.5, zorder=1)
    for part, color, name in ((slice(0, turn), "#1f5fa8", "forward"),
                              (slice(turn - 1, None), "#c2571a", "backward")):
        left.plot(x[part], now[part], ".-", color=color, lw=1.5, ms=5)
        left.text(x[part].mean(), -0.03 * most.max(), name, color=color, ha="center", va="top")
    top = int(np.argmax(most))
    left.annotate(f"with temporary\narrays: {most[top]:.1f} MB", (x[top], most[top]),
                  xytext=(-6, 0), textcoords="offset points", fontsize=8, color="0.4",
                  va="top", ha="right")
    left.axhline(result.gradients, color="0.5", lw=0.8, ls=":")
    left.text(x[-1], 0.98 * result.gradients, "all gradients", fontsize=8, color="0.4",
              ha="right", va="top")
    left.set(xlabel="operations", ylabel="MB allocated", ylim=(-0.1 * most.max(), None))
    left.set_title(f"The forward keeps {result.after_forward:.1f} MB;\n"
                   f"backward trades it for {result.after_backward:.1f} MB of gradients")
    n, plain, tape = np.array(result.overhead).T
    for values, color, name, va in ((plain, "0.4", "plain NumPy calls", "top"),
                                    (tape, "#1f5fa8", "on the tape", "bottom")):
        right.loglog(n, values, "o-", ms=3.5, color=color)
        right.text(n[0], values[0] * (0.8 if va == "top" else 1.2), name, color=color, va=va)
    right.set(xlabel="numbers in the array", ylabel="µs for a product and its VJP",
              ylim=(plain.min() / 2, None))
    right.set_title(f"The tape adds {tape[0] - plain[0]:.1f} µs an operation:\n"
                    f"{tape[0] / plain[0]:.1f}× for one number, "
                    f"{tape[-1] / plain[-1]:.1f}× for {n[-1]:,.0f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
