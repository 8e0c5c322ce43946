"""Day 37 · A tiny GPT in float16 and bfloat16: where its gradients lie, and what training needs."""

from dataclasses import dataclass

import numpy as np

from days.day37 import study
from days.harness import main, print_table, print_text, progress, save, say
from llm.data.text import load_or_default
from llm.train.halves import FP16

BLUE, ORANGE, GREY = "#1f5fa8", "#c2571a", "#8a8a8a"
SCALES = [-12, 0, 8, 16]


@dataclass(frozen=True)
class Result:
    corpus: str
    C: int
    steps: int
    gradients: int        # numbers that the products' backward read or wrote at one step
    zeros: float          # share of them that is 0 in float32 already
    histogram: list       # exponents e; share of the others with 2^e ≤ |g| < 2^(e+1)
    largest: float        # |g|
    scales: list          # log2 S
    underflow: list       # for each: shares that become [0, subnormal, infinite] in float16
    ways: list            # [name, [held-out nats by seed], [steps skipped], [log2 of last scale]]
    lost: dict            # rounding → by seed: share unmoved, first, middle and last tenth of steps
    sweep: list           # [log2 S of a fixed scale, held-out nats, steps skipped], first seed
    counting: float       # nats a character if one knows the frequencies of characters alone
    late: list            # a trained model goes on at a low rate; by seed, by float32, nearest,
                          # stochastic: [nats before, nats after, mean share of unmoved weights]
    late_rate: float
    late_steps: int
    half_slower: float    # times longer a product of two float16 arrays takes in NumPy


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    data = study.prepare(corpus.text[:300_000] if fast else corpus.text)
    C, steps, seeds = (16, 40, 1) if fast else (32, 200, 3)
    powers = [-16, 20] if fast else [-20, -16, -10, -8, -4, 8, 16, 18]
    late_steps, late = (10 if fast else 100), []
    g = study.gradients(data, C, steps // 2, seed)
    exponents, counts = np.unique(np.frexp(g[g != 0])[1] - 1, return_counts=True)
    ways, lost = [], {}
    with progress(len(study.WAYS) * seeds + len(powers), "training") as tick:
        for way in study.WAYS:
            found = []
            for s in range(seed, seed + seeds):
                model, *numbers = study.train(way, data, C, steps, s)
                found.append(numbers)
                tick(1, way.name)
                if way.name == "float32":
                    late.append(study.go_on(model, data, C, late_steps, s))
            nats, skipped, scale, same = zip(*found, strict=True)
            ways.append([way.name, list(nats), list(skipped), np.log2(scale).tolist()])
            if way.weights != "float32":
                lost[way.weights] = [study.thirds(shares) for shares in same]
        sweep = []
        for power in powers:
            _, nats, skipped, *_ = study.train(study.Way("", FP16, power), data, C, steps, seed)
            sweep.append([power, nats, skipped])
            tick(1, f"a scale of 2^{power}")
    return Result(corpus.name, C, steps, g.size, float((g == 0).mean()),
                  [exponents.tolist(), (counts / counts.sum()).tolist()], float(np.abs(g).max()),
                  SCALES, [study.underflow(g, 2.0**k) for k in SCALES], ways, lost, sweep,
                  study.counting(data), late, study.LATE_RATE, late_steps,
                  study.half_slower(64 if fast else 256, seed))


def table(result):
    rows = [["trained with", "nats", "lowest to highest", "minus float32", "skipped", "last scale"]]
    base = result.ways[0][1]
    for name, nats, skipped, scale in result.ways:
        away = np.subtract(nats, base)
        rows.append([name, f"{np.mean(nats):.3f}", f"{min(nats):.3f} to {max(nats):.3f}",
                     "" if nats is base else f"{min(away):+z.3f} to {max(away):+z.3f}",
                     ", ".join(map(str, skipped)) if any(skipped) else "0",
                     f"2^{scale[0]:.0f}" if scale[0] else "1"])
    return rows


def show(result):
    print_table(table(result), f"held-out nats a character after {result.steps} steps")
    rows = [[f"2^{k}", *(f"{100 * share:.2f} %" for share in shares)]
            for k, shares in zip(result.scales, result.underflow, strict=True)]
    print_table([["scale", "becomes 0", "subnormal", "infinite"], *rows],
                f"{result.gradients:,} gradients in float16")
    for kind, seeds in result.lost.items():
        first, middle, last = np.mean(seeds, axis=0)
        print_text(
            f"bfloat16 weights, {kind}: unchanged by a step {first:.1%} at first, {middle:.1%} "
            f"in the middle, {last:.1%} at last")
    print(f"going on for {result.late_steps} steps at a rate of {result.late_rate}, nats gained:")
    for i, kind in enumerate(("float32", "bfloat16, nearest", "bfloat16, stochastic")):
        print(f"  {kind}: " + ", ".join(f"{rows[i][0] - rows[i][1]:.4f}" for rows in result.late))
    print(f"NumPy's float16: {result.half_slower:.0f} times as long for a product as float32")


def draw(result, path):
    """Left: exponents of the gradients and float16's range. Right: the loss against the scale."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    left.bar(result.histogram[0], np.multiply(result.histogram[1], 100), .9, color=BLUE)
    top = 100 * max(result.histogram[1])
    for scale, height, color in ((0, 1.12, ORANGE), (16, 1.26, GREY)):
        left.annotate("", (-14 - scale, top * height), (16 - scale, top * height),
                      arrowprops={"arrowstyle": "<->", "color": color})
        left.plot([-24.5 - scale, -14 - scale], [top * height] * 2, ":", color=color)
        left.text(1 - scale, top * (height + .02), f"float16's range, S = $2^{{{scale}}}$" if scale
                  else "float16's range, S = 1", color=color, ha="center", fontsize=8.5)
    left.axvline(-24.5, ymax=0.8, color=ORANGE, lw=1, ls="--")
    left.set(xlabel="exponent of a gradient, $\\log_2|g|$ (dotted: subnormal)", ylim=(0, top * 1.4),
             xlim=(-42, 18), ylabel="share of the gradients other than 0, %")
    left.text(-25, top * .5, "rounds\nto 0\nwith S = 1", color=ORANGE, ha="right", fontsize=8.5)
    points = sorted([power, nats] for power, nats, _ in [*result.sweep, *(
        [scale, nats[0], 0] for i in (3, 5) for _, nats, _, (scale, *_) in [result.ways[i]])])
    right.axhline(result.ways[0][1][0], color=GREY, ls="--", lw=1, label="float32")
    right.axhline(result.counting, color=GREY, ls=":", lw=1, label="frequencies of characters")
    right.plot(*zip(*points, strict=True), "o-", color=BLUE, label="float16, this scale throughout")
    right.plot(result.ways[4][3][0], result.ways[4][1][0], "s", color=ORANGE, ms=8, mfc="none",
               label="float16, scale found on the way (the last)")
    right.set(xlabel="$\\log_2$ of the loss scale S", ylabel="held-out nats a character")
    right.legend(fontsize=8.5)
    fig.suptitle(title(result), x=.01, ha="left", fontsize=11)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    good = [power for power, nats, _ in result.sweep if nats < result.ways[0][1][0] + .02]
    at = dict(zip(result.scales, result.underflow, strict=True))
    small = f"{at[0][0] + at[0][1]:.0%} of the gradients lie below float16's normal numbers; "
    if not good:
        return small + "no fixed scale tried trains"
    return small + f"any scale tried from $2^{{{min(good)}}}$ to $2^{{{max(good)}}}$ trains"


if __name__ == "__main__":
    main(__file__, measure, show, draw)
