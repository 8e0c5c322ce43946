"""Day 31 · Rotary: scores that feel distance alone, up to rounding, and what that is worth."""

import time
from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, loss_by_place, train
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.heads import NO_RULE
from llm.layers.positions import ALiBi, LearnedPositions
from llm.layers.rotary import Rotary, rotate_half_split
from llm.tokens.chars import CharTokenizer

C, H, T, B, D, GAP = 64, 8, 32, 32, 64, 2
NAMES = ("none", "learned", "ALiBi", "rotary")


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    rows: list            # [name, nats at places 0 … 31, at 16 … 31, past 31 or None]
    distances: list
    distance_mean: list   # mean score of a vector with itself at each distance, over |x|²
    distance_band: list   # its 5 % and 95 % quantiles over random vectors
    rounding: list        # [position, error of the score in float32, float64, float32 angles]
    layouts: float        # time of the interleaved turn / of the half-split one


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    distances = [0, *np.unique(np.logspace(0, np.log10(2048), 60).astype(int)).tolist()]
    scores = by_distance(rng, distances)
    rounding = [[t, *errors(rng, t)] for t in (16, 64, 256, 1024, 4096, 16384, 65536)]
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen = tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation)
    steps, n, names = (50, 64, ("none", "rotary")) if fast else (500, 1024, NAMES)
    rows = []
    with kernels(), progress(len(names) * steps, "training") as advance:
        for name in names:
            model_rng = np.random.default_rng(seed)
            positions, rule = kind(name, model_rng)
            model = AttentionLM(tokenizer.vocab_size, C, H, 1, model_rng, positions, rule)
            train(model, ids, steps, B, T, model_rng, advance, rate=1e-2)
            loss = loss_by_place(model, unseen, T if name == "learned" else 2 * T, n)
            past = float(loss[T:].mean()) if len(loss) > T else None
            rows.append([name, float(loss[:T].mean()), float(loss[T // 2:T].mean()), past])
    return Result(corpus.name, steps, rows, distances, scores.mean(axis=0).tolist(),
                  np.quantile(scores, [0.05, 0.95], axis=0).tolist(), rounding, layouts(rng))


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


def layouts(rng, repeats=9):
    """Median time of the interleaved layout over that of the half-split one, side by side."""
    x, seconds = rng.standard_normal((8, 8, 128, D)).astype(np.float32), ([], [])
    for _ in range(repeats):
        for rule, times in zip((Rotary(D, 128), Rotary(D, 128, interleaved=True)), seconds):
            started = time.perf_counter()
            rule.turn(x)
            times.append(time.perf_counter() - started)
    return float(np.median(seconds[1]) / np.median(seconds[0]))


def table(result):
    head = ["positions", f"nats at 0 … {T - 1}", f"{T // 2} … {T - 1}",
            f"past training: {T} … {2 * T - 1}"]
    return [head] + [[name, *("refuses" if x is None else f"{x:.3f}" for x in losses)]
                     for name, *losses in result.rows]


def show(result):
    print_table(table(result), f"{result.steps} steps on {result.corpus}")
    print_table([["position", "float32", "float64", "angles in float32 too"]] + [
        [t, *(f"{x:.1e}" for x in e)] for t, *e in result.rounding],
        "how far a score moves when both tokens move there")
    print(f"the interleaved layout takes {result.layouts:.1f} times as long as the half-split one")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, (ax, ay) = plt.subplots(1, 2, figsize=(7.6, 4))
    ax.fill_between(result.distances, *result.distance_band, color="#1b4965", alpha=0.18, lw=0)
    ax.plot(result.distances, result.distance_mean, color="#1b4965")
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlabel="distance of the two tokens", ylabel="score of a vector with itself, over |x|²",
           xticks=[0, 1, 10, 100, 1000], xticklabels=["0", "1", "10", "100", "1,000"])
    ax.set_title("Far apart counts less", fontsize=10)
    at = [row[0] for row in result.rounding]
    for j, name, color, up in ((3, "angles in float32 too", "#c8553d", 22),
                               (1, "float32", "#1b4965", -16), (2, "float64", "#2a9d8f", 14)):
        values = [row[j] for row in result.rounding]
        ay.loglog(at, values, "o-", ms=3, color=color)
        ay.annotate(name, (at[3], values[3]), (0, up), textcoords="offset points", color=color,
                    ha="center")
    ay.set(xlabel="position both are moved to", ylabel="change of the score, over |q||k|",
           ylim=(1e-17, 1))
    ay.set_title("Moving both changes rounding only", fontsize=10)
    losses = {row[0]: row[1] for row in result.rows}
    others = ", ".join(f"{name} {loss:.2f}" for name, loss in losses.items() if name != "rotary")
    fig.suptitle(f"Rotary scores change with distance, not with place; {result.steps} steps on "
                 f"{result.corpus.capitalize()}\nbring them to {losses['rotary']:.2f} nats per "
                 f"character ({others})", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
