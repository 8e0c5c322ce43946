"""Day 31 · Rotary: scores that feel distance alone, what that is worth, and longer texts."""

import math
import time
from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, loss_by_place, train
from days.day31.cures import factors, slowed, with_rule
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.heads import NO_RULE
from llm.layers.positions import ALiBi, LearnedPositions
from llm.layers.rotary import Rotary, angles, rotate_half_split
from llm.tokens.chars import CharTokenizer

C, H, T, B, D, GAP = 64, 8, 32, 32, 64, 2
NAMES = ("none", "learned", "ALiBi", "rotary")
RATES = (6.7e-3, 1e-2, 1.5e-2, 2.25e-2)
SEEDS = 3


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    rates: list           # [name, [[rate, nats on the text to choose on, first seed], ...]]
    rows: list            # [name, rate, per seed: nats at 0 … 31, at 16 … 31, past 31 or None]
    cures: list           # [name, per seed: nats at 0 … 31, past 31] of rotary read at 2T
    places: list          # [name, nats at each place 0 … 63, mean over seeds] for some of them
    distances: list
    distance_mean: list   # mean score of a vector with itself at each distance, over |x|²
    distance_band: list   # its 5 % and 95 % quantiles over random vectors
    line: list            # 1 − (ln d + γ)/ln base at each distance of 1 or more
    misfit: list          # mean of measured − derived over distances 1 … 2,048: without γ, with it
    rounding: list        # [position, error of the score in float32, float64, float32 angles]
    angle_errors: list    # [position, largest error of an angle in float32 at the 64 places before]
    layouts: float        # time of the interleaved turn / of the half-split one


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    distances = [0, *np.unique(np.logspace(0, np.log10(2048), 60).astype(int)).tolist()]
    scores = by_distance(rng, distances)
    at = (16, 64, 256, 1024, 4096, 16384, 65536)
    rounding, wrong = [[t, *errors(rng, t)] for t in at], [[t, angle_error(t)] for t in at]
    d, mean = np.array(distances[1:]), scores.mean(axis=0)[1:]
    plain = 1 - np.log(d) / math.log(10000)
    line = plain - np.euler_gamma / math.log(10000)
    corpus = load_or_default("shakespeare", say)
    with kernels():
        trained = study(corpus, fast, seed)
    return Result(corpus.name, *trained, distances, scores.mean(axis=0).tolist(),
                  np.quantile(scores, [0.05, 0.95], axis=0).tolist(), line.tolist(),
                  [float((mean - x).mean()) for x in (plain, line)], rounding, wrong, layouts(rng))


def study(corpus, fast, seed):
    """steps, rates, rows, cures and places of the Result: everything that is trained."""
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.train)
    choosing, report = np.array_split(tokenizer.encode(corpus.validation), 2)
    steps, n, names, rates, seeds = 220, 1024, NAMES, RATES, SEEDS
    if fast:
        steps, n, names, rates, seeds = 110, 64, ("none", "rotary"), RATES[1:2], 1
    grid, rows, models = [], [], {}
    with progress(len(names) * (len(rates) + seeds - 1) * steps, "training") as advance:
        def make(name, rate, seed):
            rng = np.random.default_rng(seed)
            model = AttentionLM(tokenizer.vocab_size, C, H, 1, rng, *kind(name, rng))
            return train(model, ids, steps, B, T, rng, advance, rate=rate)
        for name in names:
            first, nats, waiting = {}, [], list(rates)
            while waiting:                             # the grid grows while its best is its last
                rate = waiting.pop(0)
                first[rate] = make(name, rate, seed)
                nats.append([rate, float(loss_by_place(first[rate], choosing, T, n // 2).mean())])
                best = min(nats, key=lambda row: row[1])[0]
                if not waiting and best == rate and not fast:
                    waiting.append(round(1.5 * rate, 4))
            rate = best
            grid.append([name, nats])
            models[name] = [first[rate], *(make(name, rate, seed + 1000 * k)
                                           for k in range(1, seeds))]
            loss = [loss_by_place(model, report, T if name == "learned" else 2 * T, n)
                    for model in models[name]]
            rows.append([name, rate, [float(x[:T].mean()) for x in loss],
                         [float(x[T // 2:T].mean()) for x in loss],
                         [float(x[T:].mean()) for x in loss] if name != "learned" else None])
    cures, places = [], []
    for name, factor in factors(C // H, T, 2).items():
        rule = slowed(C // H, 2 * T, factor)
        loss = [loss_by_place(with_rule(model, rule), report, 2 * T, n)
                for model in models["rotary"]]
        cures.append([name, *([float(x[part].mean()) for x in loss]
                              for part in (slice(T), slice(T, None)))])
        places.append([name, np.mean(loss, axis=0).tolist()])
    return steps, grid, rows, cures, places


def kind(name, rng):
    return {"none": (None, NO_RULE), "learned": (LearnedPositions(T, C, rng), NO_RULE),
            "ALiBi": (None, ALiBi(H)), "rotary": (None, Rotary(C // H, 2 * T))}[name]


def by_distance(rng, distances, n=500):
    """(n, distances): q turned at d times q at 0, over |q|², for random q."""
    rule = Rotary(D, distances[-1] + 1)
    x = np.repeat(rng.standard_normal((n, 1, D)), len(distances), axis=1)
    cos, sin = (table[distances] for table in rule.exact)
    return (rotate_half_split(x, cos, sin) * x).sum(-1) / (x * x).sum(-1)


def errors(rng, t, n=1000):
    """Largest difference between scores at (t + 2, t) and (2, 0), over |q||k|, done in float32, in
    float64, and in float32 with the angles themselves computed in float32."""
    rule, (q, k) = Rotary(D, t + GAP + 1), rng.standard_normal((2, n, 1, D))
    size = np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    omega = (10000.0 ** (-np.arange(0, D, 2) / D)).astype(np.float32)
    narrow = np.arange(t + GAP + 1, dtype=np.float32)[:, None] * omega
    found = []
    for dtype, cos, sin in ((np.float32, rule.cos, rule.sin), (np.float64, *rule.exact),
                            (np.float32, np.cos(narrow), np.sin(narrow))):
        turn = lambda x, at, c=cos, s=sin, kind=dtype: rotate_half_split(
            x.astype(kind), c[at:at + 1], s[at:at + 1])
        near, far = ((turn(q, s + GAP) * turn(k, s)).sum(-1) for s in (0, t))
        found.append(float((np.abs(far.astype(float) - near) / size).max()))
    return found


def angle_error(t):
    """The largest error, in radians, of an angle t·ω held in float32, over the places up to t."""
    at, omega = np.arange(max(t - 63, 0), t + 1), angles(2, D)[1]
    narrow = at.astype(np.float32)[:, None] * omega.astype(np.float32)
    return float(np.abs(narrow - at[:, None] * omega).max())


def layouts(rng, repeats=9):
    """Median time of the interleaved layout over that of the half-split one, side by side."""
    x, seconds = rng.standard_normal((8, 8, 128, D)).astype(np.float32), ([], [])
    for _ in range(repeats):
        for rule, times in zip((Rotary(D, 128), Rotary(D, 128, interleaved=True)), seconds):
            started = time.perf_counter()
            rule.turn(x)
            times.append(time.perf_counter() - started)
    return float(np.median(seconds[1]) / np.median(seconds[0]))


def spread(values):
    """Mean and range over the seeds, for a table."""
    return f"{np.mean(values):.3f} ({min(values):.3f} … {max(values):.3f})"


def table(result):
    head = ["positions", "rate", f"nats at 0 … {T - 1}", f"{T // 2} … {T - 1}",
            f"past training: {T} … {2 * T - 1}"]
    return [head] + [[name, f"{rate:g}", *("refuses" if x is None else spread(x) for x in losses)]
                     for name, rate, *losses in result.rows]


def show(result):
    print_table(table(result), f"{result.steps} steps on {result.corpus}: mean (range over seeds)")
    print_table([["slowed to half", f"nats at 0 … {T - 1}", f"{T} … {2 * T - 1}"]] + [
        [name, *map(spread, losses)] for name, *losses in result.cures],
        "the same rotary models, read at twice the trained length")
    print_table([["rate", *(f"{rate:g}" for rate, _ in result.rates[0][1])]] + [
        [name, *(f"{x:.3f}" for _, x in nats)] for name, nats in result.rates],
        "choosing a rate, first seed")
    print_table([["position", "float32", "float64", "angles in float32 too", "angle error"]] + [
        [t, *(f"{x:.1e}" for x in e), f"{a:.1e}"]
        for (t, *e), (_, a) in zip(result.rounding, result.angle_errors)],
        "how far a score moves when both tokens move there")
    print(f"the interleaved layout takes {result.layouts:.1f} times as long as the half-split one")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (aw, ax, ay) = plt.subplots(1, 3, figsize=(11.4, 4))
    colors = {"as trained": "#c8553d", "all hands": "#8a8a8a", "larger base": "#2a9d8f",
              "hand 2 only": "#1b4965"}
    for name, nats in result.places:
        if name in colors:
            label = name if name == "as trained" else f"slowed: {name}"
            aw.plot(nats, color=colors[name], lw=1.4, label=label)
    aw.axvline(T - 0.5, color="#555555", lw=0.8, ls=":")
    aw.set(xlabel=f"place in the text (trained on 0 … {T - 1})", ylabel="nats, unseen text",
           xticks=range(0, 2 * T + 1, 16))
    aw.set_title("Slowing the second hand cures it", fontsize=10)
    aw.legend(fontsize=8)
    ax.fill_between(result.distances, *result.distance_band, color="#1b4965", alpha=0.18, lw=0,
                    label="90 % of random vectors")
    ax.plot(result.distances, result.distance_mean, color="#1b4965", label="mean")
    ax.plot(result.distances[1:], result.line, "--", color="#c8553d", label="derived line")
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlabel="distance of the two tokens", ylabel="score of a vector with itself, over |x|²",
           xticks=[0, 1, 10, 100, 1000], xticklabels=["0", "1", "10", "100", "1,000"])
    ax.set_title("Far apart counts less", fontsize=10)
    ax.legend(fontsize=8, loc="lower left")
    at = [row[0] for row in result.rounding]
    for j, name, color, up in ((3, "angles in float32 too", "#c8553d", 16),
                               (1, "float32", "#1b4965", -16), (2, "float64", "#2a9d8f", 14)):
        values = [row[j] for row in result.rounding]
        ay.loglog(at, values, "o-", ms=3, color=color)
        ay.annotate(name, (at[3], values[3]), (0, up), textcoords="offset points", color=color,
                    ha="center", fontsize=9)
    ay.set(xlabel="position both are moved to", ylabel="change of the score, over |q||k|",
           ylim=(1e-17, 1), xticks=[16, 256, 4096, 65536],
           xticklabels=["16", "256", "4,096", "65,536"])
    ay.minorticks_off()
    ay.set_title("Moving both changes rounding only", fontsize=10)
    cures = {name: np.mean(past) for name, _, past in result.cures}
    fig.suptitle(f"Rotary knows distances. At twice the trained length it fails "
                 f"({cures['as trained']:.2f} nats), because one hand of four points where it "
                 f"never did;\nslowing that hand alone brings {cures['hand 2 only']:.2f}, slowing "
                 f"all {cures['all hands']:.2f}", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
