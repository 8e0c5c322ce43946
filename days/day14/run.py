"""Day 14 · Every rule checked on a real batch, and what its backward costs against its forward."""

from dataclasses import dataclass

import numpy as np

from days.day14.cost import (
    cost,
    lookup_ratio,
    narrow,
    sign_ratio,
    time_ratio,
    view_ratio,
    worst_error,
)
from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad import rules
from llm.tokens.chars import CharTokenizer

T, C, HEADS = 64, 64, 4


@dataclass(frozen=True)
class Result:
    corpus: str
    batch: list       # [B, T, C, V]
    rows: list        # rule, shape of out, worst relative error, FLOPs forward (millions),
    #                   FLOPs ratio, least bytes ratio, time ratio, forward in ms
    probes: int       # entries checked of each input
    repeats: int
    view: list        # matmul's second factor a transposed view ÷ a copy: forward, backward times
    lookup: list      # the lookup's backward ÷ forward by np.add.at, and by a one-hot product
    signs: list       # relu's backward ÷ forward, signs at random and sorted
    whole: float      # worst error of linear where the sum itself, not its change, is measured


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    B, V = 8 if fast else 32, tokenizer.vocab_size
    starts = rng.integers(len(corpus.train) - T - 1, size=B)
    ids = np.stack([tokenizer.encode(corpus.train[s:s + T + 1]) for s in starts])
    rows, probes, repeats = [], 4 if fast else 20, 5 if fast else 41
    calls = cases(ids, V, rng)
    with progress(len(calls), "rules") as step:
        for label, (name, *arrays) in calls.items():
            f, f_vjp = getattr(rules, name), getattr(rules, f"{name}_vjp")
            error = worst_error(f, f_vjp, arrays, probes, rng)
            arrays = [narrow(a) for a in arrays]
            ratio, forward, size = time_ratio(f, f_vjp, arrays, repeats, rng)
            flops, flops_ratio, bytes_ratio = cost(label, arrays, size)
            rows.append([label, "×".join(map(str, np.shape(f(*arrays)[0]))) or "one number",
                         error, flops / 1e6, flops_ratio, bytes_ratio, ratio, 1e3 * forward])
            step()
    whole = worst_error(rules.linear, rules.linear_vjp, calls["linear"][1:], probes, rng, False)
    return Result(corpus.name, [B, T, C, V], rows, probes, repeats,
                  view_ratio(*map(narrow, calls["matmul"][1:]), repeats, rng),
                  lookup_ratio(*map(narrow, calls["embedding"][1:]), repeats, rng),
                  sign_ratio(narrow(calls["relu"][1]), repeats, rng), whole)


def cases(ids, V, rng):
    """What each rule meets in a model: {label: (rule, arrays)}; random where it is not the text."""
    normal = rng.standard_normal
    B, D = len(ids), C // HEADS
    x, wide, logits = normal((B, T, C)), normal((B, T, 4 * C)), normal((B, T, V))
    heads = normal((B, HEADS, T, D))
    elementwise = {name: (name, wide) for name in ("relu", "tanh", "sigmoid", "silu", "gelu")}
    return {"linear": ("linear", x, normal((C, 4 * C)) / C**0.5, normal(4 * C)),
            "matmul": ("matmul", heads, np.swapaxes(normal(heads.shape), -1, -2)),
            "embedding": ("embedding", normal((V, C)), ids[:, :-1]),
            "cross_entropy": ("cross_entropy", logits, ids[:, 1:]),
            "softmax": ("softmax", normal((B, HEADS, T, T))),
            **elementwise,
            "add bias": ("add", wide, normal(4 * C)), "add": ("add", wide, normal(wide.shape)),
            "sub": ("sub", wide, normal(wide.shape)), "mul": ("mul", wide, normal(wide.shape)),
            "div": ("div", wide, 1 + rng.random(wide.shape))}


def table(result):
    rows = [["rule", "out", "worst error", "FLOPs b÷f", "bytes b÷f", "time b÷f"]]
    for label, shape, error, _, flops_ratio, bytes_ratio, ratio, _ in result.rows:
        rows.append([label, shape, f"{error:.0e}",
                     "–" if flops_ratio is None else f"{flops_ratio:.1f}", f"{bytes_ratio:.1f}",
                     f"{ratio:.1f}"])
    return rows


def show(result):
    print_table(table(result), "backward (b) ÷ forward (f)")


def draw(result, path):
    import matplotlib.pyplot as plt
    rows = sorted((row for row in result.rows if row[6] > 0.05), key=lambda row: row[6])
    fig, ax = plt.subplots(figsize=(7.2, 5.0))
    for y, (*_, flops, moved, ratio, _) in enumerate(rows):
        marks = [m for m in (flops, moved, ratio) if m]
        ax.plot([min(marks), max(marks)], [y, y], color="0.85", lw=1, zorder=0)
    heights = np.arange(len(rows))
    for at, marker, label, style in (
            (4, "o", "FLOPs, as derived", {"mfc": "white", "mec": "#c2571a", "ms": 8}),
            (5, "|", "bytes, at least", {"color": "0.25", "ms": 11, "mew": 1.6}),
            (6, "o", "measured time", {"color": "#1f5fa8", "ms": 4.5})):
        there = [row[at] or np.nan for row in rows]
        ax.plot(there, heights, marker, ls="", label=label, **style)
    ax.legend(loc="lower right", frameon=False)
    ax.axvline(1, color="0.6", lw=0.8, ls=":")
    ax.set(xscale="log", xlabel="backward ÷ forward", ylim=(-0.6, len(rows) - 0.4))
    ax.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16, 32], ["¼", "½", "1", "2", "4", "8", "16", "32"])
    ax.minorticks_off()
    ax.set_yticks(heights, [row[0] for row in rows])
    ax.tick_params(axis="y", length=0)
    time = {row[0]: row[6] for row in rows}
    ax.set_title("Neither FLOPs nor bytes alone predict the time of a backward pass:\n"
                 f"with 2 for the FLOPs, linear takes {time['linear']:.1f}, relu "
                 f"{time['relu']:.1f}; the lookup takes {time['embedding']:.0f}")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
