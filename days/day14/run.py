"""Day 14 · Every rule checked on a real batch, and what its backward costs against its forward."""

import time
from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad import rules
from llm.grad.check import numerical_gradient
from llm.tokens.chars import CharTokenizer

T, C, HEADS = 64, 64, 4
COST = {  # for each number of out: FLOPs forward, backward; numbers moved at least, both ways
    "cross_entropy": (5, 2, 2, 2), "softmax": (5, 4, 2, 3), "sigmoid": (7, 3, 2, 3),
    "add": (1, 0, 3, 0), "add bias": (1, 1, 2, 1), "sub": (1, 1, 3, 2), "mul": (1, 2, 3, 5),
    "div": (1, 3, 3, 5), "relu": (1, 2, 2, 3), "tanh": (1, 3, 2, 3), "silu": (8, 12, 2, 3),
    "gelu": (9, 18, 2, 3), "embedding": (0, 1, 2, 3)}


@dataclass(frozen=True)
class Result:
    corpus: str
    batch: list       # [B, T, C, V]
    rows: list        # rule, shape of out, worst relative error, FLOPs forward (millions),
    #                   FLOPs ratio, least bytes ratio, time ratio, forward in ms
    probes: int       # entries checked of each input
    repeats: int


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
    return Result(corpus.name, [B, T, C, V], rows, probes, repeats)


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


def worst_error(f, f_vjp, arrays, probes, rng):
    """Worst relative error over `probes` random entries of each float64 input, as on day 12."""
    out, saved = f(*arrays)
    dout = np.asarray(rng.standard_normal(np.shape(out)))
    errors = []
    for i, grad in enumerate(f_vjp(dout, *saved)):
        if grad is None:
            continue
        where = rng.choice(grad.size, probes, replace=False)
        changed = [np.array(a) for a in arrays]

        def loss(values, changed=changed, i=i, where=where):
            changed[i].flat[where] = values
            return np.sum((f(*changed)[0] - out) * dout)   # less to round than in f(…)·dout alone

        numeric = numerical_gradient(loss, arrays[i].flat[where].copy())
        analytic = grad.flat[where]
        errors.append(np.abs(analytic - numeric) / np.maximum(1, np.abs(numeric)))
    return float(np.max(errors))


def narrow(array):
    """float64 as float32, in which training runs; ids as they are."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def time_ratio(f, f_vjp, arrays, repeats, rng):
    """Fastest backward ÷ fastest forward, forward seconds, numbers in out.

    The fastest of interleaved calls is the one that nothing else on the machine disturbed.
    """
    out, saved = f(*arrays)
    dout = np.asarray(rng.standard_normal(np.shape(out)), np.float32)
    seconds = []
    for _ in range(repeats):
        row = []
        for call in (lambda: f(*arrays), lambda: f_vjp(dout, *saved)):
            started = time.perf_counter()
            call()
            row.append(time.perf_counter() - started)
        seconds.append(row)
    forward, backward = np.min(seconds, axis=0)
    return float(backward / forward), float(forward), max(np.size(out), 1)


def cost(label, arrays, size):
    """FLOPs forward, and the ratios backward ÷ forward of FLOPs and of the least bytes moved."""
    if label in ("linear", "matmul"):
        a, b = arrays[0].size, arrays[1].size
        return 2 * size * arrays[0].shape[-1], 2.0, (2 * a + 2 * b + size) / (a + b + size)
    size = arrays[0].size if label == "cross_entropy" else size
    forward, backward, read, moved = COST[label]
    return size * forward, backward / forward if forward else None, moved / read


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
        if flops:
            ax.plot(flops, y, "o", mfc="white", mec="#c2571a", ms=7)
        if moved:
            ax.plot(moved, y, "|", color="0.25", ms=11, mew=1.6)
        ax.plot(ratio, y, "o", color="#1f5fa8", ms=5)
    top = len(rows) - 1
    flops, moved, ratio = rows[-2][4], rows[-1][5], rows[-1][6]
    ax.text(ratio, top + 0.35, "measured time", color="#1f5fa8", ha="right", va="bottom")
    ax.text(flops, top - 0.55, "FLOPs", color="#c2571a", ha="left", va="bottom")
    ax.text(moved, top + 0.35, "bytes, at least", color="0.25", ha="center", va="bottom")
    ax.axvline(1, color="0.6", lw=0.8, ls=":")
    ax.set(xscale="log", xlabel="backward ÷ forward", ylim=(-0.6, top + 1.1))
    ax.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16, 32], ["¼", "½", "1", "2", "4", "8", "16", "32"])
    ax.minorticks_off()
    ax.set_yticks(range(len(rows)), [row[0] for row in rows])
    ax.tick_params(axis="y", length=0)
    ratios = {row[0]: row[6] for row in rows}
    ax.set_title(f"FLOPs foretell the products (linear: 2 predicted, {ratios['linear']:.1f} "
                 f"measured),\nnot the lookup, whose backward takes {ratios['embedding']:.0f}×")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
