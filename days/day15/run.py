"""Day 15 · What a tape keeps in memory, operation by operation, and what it costs in time."""

from dataclasses import dataclass

import numpy as np

from days.day15.parts import (
    C,
    L,
    T,
    fastest,
    leaves,
    loss,
    memory,
    microseconds,
    product,
    slope_error,
)
from days.harness import main, print_table, save, say
from llm.data.text import load_or_default
from llm.grad.scalar import Value
from llm.grad.walk import saved_by_operation
from llm.models import window
from llm.tokens.chars import CharTokenizer


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
    left.vlines(x, now, most, color="0.8", lw=1.5, zorder=1, label="most, during the operation")
    left.plot(x[:turn], now[:turn], ".-", color="#1f5fa8", lw=1.5, ms=5)
    after = [*now[turn - 1:], result.after_backward]          # the last: backward has returned
    left.plot([*x[turn - 1:], len(x) + 1], after, ".-", color="#c2571a", lw=1.5, ms=5)
    for part, color, name in ((x[:turn], "#1f5fa8", "forward"), (x[turn:], "#c2571a", "backward")):
        left.text(part.mean(), -0.03 * most.max(), name, color=color, ha="center", va="top")
    top = int(np.argmax(most))
    left.text(x[top] - 1, 1.02 * most[top], f"with temporary arrays: {most[top]:.1f} MB",
              fontsize=8, color="0.4", va="bottom")
    left.axhline(result.gradients, color="0.5", lw=0.8, ls=":")
    left.text(0.97 * len(x), 0.97 * result.gradients, "all gradients", fontsize=8, color="0.4",
              ha="right", va="top")
    left.legend(loc="upper left", fontsize=8, frameon=False)
    left.set(xlabel="operations", ylabel="MB allocated after each",
             ylim=(-0.1 * most.max(), 1.15 * most.max()))
    left.set_title(f"The forward keeps {result.after_forward:.1f} MB;\n"
                   f"backward trades it for {result.after_backward:.1f} MB of gradients")
    n, plain, tape = np.array(result.overhead).T
    for values, color, name, va in ((plain, "0.4", "plain NumPy calls", "top"),
                                    (tape, "#1f5fa8", "on the tape", "bottom")):
        right.loglog(n, values, "o-", ms=3.5, color=color)
        right.text(n[0], values[0] * (0.8 if va == "top" else 1.2), name, color=color, va=va)
    right.set(xlabel="numbers in the array", ylabel="µs for a product and its VJP",
              ylim=(plain.min() / 2, None), yticks=(1, 10), yticklabels=("1", "10"),
              xticks=(1, 100, 10_000), xticklabels=("1", "100", "10,000"))
    right.set_title(f"The tape adds {tape[0] - plain[0]:.1f} µs an operation:\n"
                    f"{tape[0] / plain[0]:.1f}× for one number, "
                    f"{tape[-1] / plain[-1]:.1f}× for {n[-1]:,.0f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
