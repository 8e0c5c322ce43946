"""Day 17 · Three ways downhill: a valley whose answer is known, and the bigram of Shakespeare."""

from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor
from llm.models.bigram import counted_loss, loss_and_gradient_of_counts
from llm.train.sgd import SGD, best_descent, best_momentum, best_nesterov

METHODS = {"descent": {}, "momentum": {"momentum": 0.9},
           "Nesterov": {"momentum": 0.9, "nesterov": True}}
LOW, HIGH, START = 1.0, 30.0, (-10.0, 1.6)       # curvatures of the valley, and where to begin
COLORS = {"descent": "#999999", "momentum": "#1b4965", "Nesterov": "#ca6702"}


@dataclass(frozen=True)
class Result:
    """Everything the note and the figure say."""

    source: str
    kappa: float          # of the valley
    paths: dict           # {method: [[x, y], …]} in it
    valley_steps: dict    # {method: steps until the distance to the bottom is 1e-6 of the start}
    valley_rates: dict
    edge: list            # distance after 60 steps of descent at 0.99 and 1.01 times 2/λmax
    counted: float        # nats a character, the bottom of the bigram's loss
    largest: float        # share of the most frequent context; half of it bounds the curvature
    rates: dict           # {method: the best of the rates tried}
    near: dict            # {method: [[rate, steps], …]}, rates 9 % apart around the best
    noise: list           # rows: batch, rms distance of its gradient from the full one, over the
                          # full one's length, at the start; the same times √batch
    steps: dict           # {method: steps until it stays within 0.01 nats of `counted`}
    curves: dict          # {method: [[step, nats above `counted`], …]} at the best rate
    diverged: dict        # {method: the smallest rate tried that did not get there}


def measure(fast, seed):
    """The valley exactly, then the bigram at every rate of a grid. Nothing is timed or random."""
    corpus = load_or_default("shakespeare", say)
    text = corpus.text[:200_000] if fast else corpus.text
    counts = letter_pairs(text)
    bottom, share = counted_loss(counts), counts.sum(axis=1).max() / counts.sum()
    bound = share / 2                                              # no curvature is larger
    grid = [2.0 ** k / bound for k in ((-2, 1) if fast else range(-5, 7))]
    fine = [2.0 ** (k / 8) for k in ((-4, 4) if fast else range(-7, 8)) if k]
    limit, target = (400, 0.1) if fast else (3000, 0.01)
    runs = {}
    with progress(len(METHODS) * (len(grid) + len(fine)), "descending") as tick:
        for name, options in METHODS.items():
            runs[name] = {}
            for rates in (grid, fine):                       # coarse, then around the best
                if rates is fine:
                    center = quickest(runs[name], target)
                    rates = [center * factor for factor in fine]
                for rate in rates:
                    runs[name][rate] = descend(counts, rate, options, limit) - bottom
                    tick()
    reached = {name: arrivals(tried, target) for name, tried in runs.items()}
    best = {name: min(found, key=found.get) for name, found in reached.items()}
    near = {name: sorted([rate, steps] for rate, steps in found.items()
                         if 0.4 < rate / best[name] < 2.5) for name, found in reached.items()}
    return Result(
        corpus.name, HIGH / LOW, *valley(), edge(), bottom, share, best, near,
        noise(counts, np.random.default_rng(seed), 50 if fast else 400),
        {name: reached[name][best[name]] for name in METHODS},
        {name: thinned(runs[name][best[name]], reached[name][best[name]]) for name in METHODS},
        {name: min((r for r in runs[name] if r not in reached[name] and r > best[name]),
                   default=0.0)
         for name in METHODS})


def arrivals(tried, target):
    """{rate: steps until the gap stays below target} of those that get there."""
    return {rate: int(np.flatnonzero(gaps > target)[-1]) + 1
            for rate, gaps in tried.items() if gaps[-1] <= target}


def quickest(tried, target):
    """The rate that gets there first."""
    found = arrivals(tried, target)
    return min(found, key=found.get)


def noise(counts, rng, draws):
    """[B, relative noise of a batch's gradient, the same times √B], at zero logits."""
    w, full = np.zeros(counts.shape), loss_and_gradient_of_counts(np.zeros(counts.shape), counts)[1]
    shares, rows = (counts / counts.sum()).ravel(), []
    for B in (16, 64, 256, 1024):
        batches = rng.multinomial(B, shares, size=draws).reshape(draws, *counts.shape)
        off = [loss_and_gradient_of_counts(w, batch.astype(float))[1] - full for batch in batches]
        size = float(np.sqrt(np.mean(np.square(off).sum(axis=(1, 2))) / np.square(full).sum()))
        rows.append([B, size, size * B ** 0.5])
    return rows


def letter_pairs(text):
    """How often letter j follows letter i, 26 letters and a space for all else: (27, 27)."""
    codes = np.frombuffer(text.lower().encode("ascii", "replace"), np.uint8).astype(np.int64) - 96
    ids = np.where((codes < 1) | (codes > 26), 0, codes)
    return np.bincount(27 * ids[:-1] + ids[1:], minlength=27 * 27).reshape(27, 27).astype(float)


def descend(counts, rate, options, limit):
    """The loss before each of `limit` steps, or until it is lost."""
    w = Tensor(np.zeros(counts.shape), requires_grad=True)
    optimizer, losses = SGD({"w": w}, **options), []
    for _ in range(limit):
        loss, w.grad = loss_and_gradient_of_counts(w.data, counts)
        losses.append(float(loss))
        if not losses[-1] < 50:
            break
        optimizer.step(rate)
    return np.array(losses)


def valley():
    """Paths, steps and rates in ½(LOW x² + HIGH y²), each method at what the note derives."""
    rate, _ = best_descent(LOW, HIGH)
    quick, momentum, factor = best_momentum(LOW, HIGH)
    ahead, slide, _ = best_nesterov(LOW, HIGH)
    settings = {"descent": (rate, {}), "momentum": (quick, {"momentum": momentum}),
                "Nesterov": (ahead, {"momentum": slide, "nesterov": True}),
                "Nesterov, 1/λmax": (1 / HIGH, {"momentum": factor, "nesterov": True})}
    paths, steps = {}, {}
    for name, (rate, options) in settings.items():
        path = roll(rate, options, 400)
        distance = np.linalg.norm(path, axis=1)
        steps[name] = int(np.flatnonzero(distance > 1e-6 * distance[0])[-1]) + 1
        paths[name] = path[:40].tolist()
    return paths, steps, {name: rate for name, (rate, _) in settings.items()}


def roll(rate, options, steps):
    """The path from START: (steps + 1, 2)."""
    p = Tensor(np.array(START), requires_grad=True)
    optimizer, path = SGD({"p": p}, **options), [p.data.copy()]
    for _ in range(steps):
        p.grad = np.array([LOW, HIGH]) * p.data
        optimizer.step(rate)
        path.append(p.data.copy())
    return np.array(path)


def edge():
    """How far from the bottom 60 steps of descent end, just below and just above 2/λmax."""
    return [float(np.linalg.norm(roll(share * 2 / HIGH, {}, 60)[-1])) for share in (0.99, 1.01)]


def thinned(gaps, steps):
    """[step, gap] at about forty of the first `steps`, evenly spread on a logarithmic axis."""
    at = np.unique(np.geomspace(1, steps + 1, 40).astype(int))
    return [[int(i), float(gaps[i - 1])] for i in at]


def table(result):
    """Steps in the valley and on real text."""
    rows = [["method", "valley, steps to 1e-6", "bigram, best rate", "bigram, steps"]]
    for name in result.valley_steps:
        known = name in result.steps
        rows.append([name, result.valley_steps[name], f"{result.rates[name]:.3g}" if known else "–",
                     f"{result.steps[name]:,}" if known else "–"])
    return rows


def show(result):
    """Print the table, and what happens at the edge."""
    print_table(table(result), f"{result.source}: bigram of 27 letters, "
                               f"bottom {result.counted:.3f} nats")
    print_table([["batch", "noise / gradient", "times √batch"], *(
        [B, f"{size:.3f}", f"{scaled:.2f}"] for B, size, scaled in result.noise)])
    print(f"descent at 0.99 and 1.01 of 2/λmax ends {result.edge[0]:.2f} and "
          f"{result.edge[1]:.2f} from the bottom")


def draw(result, path):
    """Left: the valley. Right: the bigram's loss above the counted one."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.9))
    x, y = np.meshgrid(np.linspace(-11, 4, 200), np.linspace(-5, 5, 200))
    left.contour(x, y, 0.5 * (LOW * x * x + HIGH * y * y), levels=[1, 5, 15, 30, 50, 80],
                 colors="#dddddd", linewidths=0.8)
    for name, points in result.paths.items():
        if name not in COLORS:
            continue
        left.plot(*zip(*points, strict=True), "o-", ms=2, lw=0.9, color=COLORS[name])
    left.set(xlabel=f"x, curvature {LOW:.0f}", ylabel=f"y, curvature {HIGH:.0f}", ylim=(-5, 5))
    for name, points in result.curves.items():
        steps, gaps = zip(*points, strict=True)
        right.loglog(steps, gaps, color=COLORS[name], label=f"{name}, {result.steps[name]:,} steps")
    right.set(xlabel="steps", ylabel="nats above the counted bigram")
    right.legend()
    ratio = result.steps["descent"] / result.steps["momentum"]
    fig.suptitle(f"Momentum crosses a valley {result.valley_steps['descent']} steps long in "
                 f"{result.valley_steps['momentum']}, and learns\nShakespeare's bigrams in "
                 f"1/{ratio:.1f} of the steps of plain descent", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
