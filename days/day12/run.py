"""Day 12 · The error of a measured derivative against its step, and dual numbers that have none."""

from dataclasses import dataclass

import numpy as np

from days.day12.steps import dual_miss, error, float32_formula, observed_rounding, predicted_step
from days.harness import main, print_table, save, say
from llm.data.text import load_or_default
from llm.grad.check import numerical_gradient
from llm.grad.count import dual_operations, operations
from llm.grad.dual import derivative, exp, log, tanh
from llm.tokens.chars import CharTokenizer

KINDS = ("forward", "central")
LABEL = {"forward float32": {"xytext": (2, 28), "ha": "center"},  # beside each lowest point
         "forward float64": {"xytext": (14, 40), "ha": "center"},
         "central float32": {"xytext": (10, -14), "ha": "left", "va": "top"},
         "central float64": {"xytext": (0, -6), "ha": "center", "va": "top"}}


@dataclass(frozen=True)
class Result:
    steps: list       # h
    errors: dict      # "central float64" → median |error| / |f′| at each step, f = exp
    best: dict        # the same key → [predicted step, measured step, error there]
    rounding: dict    # the same key → [rounding error · h / u, the step predicted from it]
    dual_error: dict  # "float64" → median relative error of dual numbers
    corpus: str
    scale: float      # best inverse temperature of the bigram model on text it has not seen
    newton: list      # its loss derivative after each Newton step
    nats: list        # loss at scale 1 and at the best scale, on text that did not choose it
    slope_error: float  # relative error of central differences there
    costs: list       # rows: n inputs, operations of f, of all n dual passes
    drowned: float    # median relative error of central differences of a float32 formula


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.0, 1.0, 200 if fast else 5000)
    steps = np.logspace(-13, 0, 27 if fast else 131)
    errors = {f"{kind} {dtype}": [error(kind, points.astype(dtype), h) for h in steps]
              for kind in KINDS for dtype in ("float32", "float64")}
    best, rounding = {}, {}
    for name, curve in errors.items():
        kind, dtype = name.split()
        at = int(np.nanargmin(curve))
        best[name] = [predicted_step(kind, dtype), float(steps[at]), curve[at]]
        rounding[name] = observed_rounding(kind, dtype, steps, np.array(curve), steps[at])
    dual_error = {dtype: dual_miss(points.astype(dtype)) for dtype in ("float32", "float64")}
    corpus = load_or_default("shakespeare", say)
    loss, held_out = temperature_losses(corpus)
    scale, newton = 1.0, []
    for _ in range(6):  # Newton: go where the parabola with this slope and curvature is lowest
        newton.append(float(derivative(loss, scale)))
        scale -= newton[-1] / derivative(lambda s: derivative(loss, s), scale)
    measured = numerical_gradient(lambda s: loss(s[0]), np.array([1.0]))[0]
    f = lambda xs: sum(tanh(x * x) * exp(x) for x in xs)
    costs = [[n, operations(f, [0.5] * n), dual_operations(f, [0.5] * n)] for n in (1, 10, 100)]
    return Result(steps.tolist(), errors, best, rounding, dual_error, corpus.name, float(scale),
                  newton, [float(held_out(1.0)), float(held_out(scale))],
                  float(abs(measured / newton[0] - 1)), costs, float32_formula(points + 1.0))


def temperature_losses(corpus):
    """Two losses, as functions of s = 1/T, of a bigram model from little text.

    The logits are log(count + 1) over 10,000 characters; P(v | c) = softmax(s · logits). The first
    loss is on 100,000 characters that the model has not seen; they choose s. The second is on the
    next 100,000, which have no part in the choice. Of a short text each is half of the held-out.
    """
    ids = CharTokenizer.from_text(corpus.text).encode(corpus.text)
    size, cut = int(ids.max()) + 1, len(corpus.train)
    pairs = lambda part: np.bincount(part[:-1].astype(int) * size + part[1:],
                                     minlength=size * size).reshape(size, size)
    z = np.log(pairs(ids[:10_000]) + 1.0)

    def loss_on(part):
        n = pairs(part).astype(float)
        return lambda s: ((log(exp(s * z).sum(1)) * n.sum(1)).sum() - s * (n * z).sum()) / n.sum()

    part = min(100_000, (len(ids) - cut) // 2)
    return loss_on(ids[cut:cut + part]), loss_on(ids[cut + part:cut + 2 * part])


def table(result):
    rows = [["method", "best step, from the bound", "from the rounding seen",
             "measured", "relative error there"]]
    for name, (predicted, measured, miss) in result.best.items():
        rows.append([name, f"{predicted:.1e}", f"{result.rounding[name][1]:.1e}",
                     f"{measured:.1e}", f"{miss:.1e}"])
    for name, miss in result.dual_error.items():
        rows.append([f"dual numbers {name}", "none", "none", "none", f"{miss:.1e}"])
    return rows


def show(result):
    print_table(table(result), "derivative of exp on [0, 1]")
    print(f"Bigram model of {result.corpus}: dL/ds at s = 1 is {result.newton[0]:.6f} nats by\n"
          f"dual numbers; central differences are off by {result.slope_error:.0e} of it.")
    print(f"Newton on dual numbers of dual numbers: best s = {result.scale:.4f}; on other text\n"
          f"the loss falls from {result.nats[0]:.4f} to {result.nats[1]:.4f} nats per character.")
    for n, plain, dual in result.costs:
        print(f"inputs: {n:3d}   operations of f: {plain:3d}   of its {n} dual passes: {dual}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    h = np.array(result.steps)
    for name, curve in result.errors.items():
        kind, dtype = name.split()
        color = "#1f5fa8" if dtype == "float64" else "#c2571a"
        ax.loglog(h, curve, color=color, lw=2.2 if kind == "central" else 1)
        unit = float(np.finfo(dtype).eps) / 2
        bound = h**2 / 6 + unit / h if kind == "central" else h / 2 + 2 * unit / h
        ax.loglog(h, bound, color="0.6", lw=0.8, ls=":", zorder=0)
        _, step, miss = result.best[name]
        ax.plot(step, miss, "o", color=color, ms=4)
        ax.annotate(f"{kind}, {dtype}\nbest h = {step:.0e}", (step, miss), color=color,
                    fontsize=8, textcoords="offset points", **LABEL[name])
    ax.axhline(result.dual_error["float64"], color="0.2", lw=0.8)
    ax.text(2e-13, result.dual_error["float64"] * 2, "dual numbers, float64: no step to choose",
            fontsize=8, va="bottom")
    ax.text(2e-13, 2e-7, "rounding:\nsmaller h,\nlarger error", fontsize=8, color="0.4", va="top")
    ax.text(2e-13, 3e-2, "dotted: truncation + rounding,\nas derived", fontsize=8, color="0.4")
    ax.text(0.3, 1e-9, "truncation:\nlarger h,\nlarger error", fontsize=8, color="0.4",
            ha="center", va="top")
    ax.set(xlabel="step h", ylabel="relative error of the derivative", ylim=(3e-18, 3),
           xlim=(1e-13, 2))
    ratio = result.best["forward float64"][2] / result.best["central float64"][2]
    fig.suptitle(f"In float64 the best central difference is about {float(f'{ratio:.1g}'):,.0f}× "
                 "as accurate as the best forward one", x=.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
