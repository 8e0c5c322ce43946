"""Day 19 · Which rate at which step: noise, schedules, warmup, the range run, and clipping."""

from dataclasses import dataclass

import numpy as np

from days.day19.bowl import compare, expected_losses, floor, rates_of, walk
from days.day19.lab import Lab, noise_step, smooth
from days.day19.trials import (
    clipped_throughout,
    curvatures,
    range_runs,
    spikes,
    sweep,
)
from days.harness import main, print_table, progress, say
from llm.data.text import load_or_default
from llm.tokens.chars import CharTokenizer
from llm.train.schedule import Constant, WarmupCosine

# the best of experiments/schedules.py, grids with steps of √2; the constant rate once more at 0.01
PEAKS = {"constant": (0.007, 0.01), "cosine": (0.02,), "warmup-stable-decay": (0.01,),
         "linear": (0.02,)}
CURVATURES, NOISE, BOWL = np.geomspace(1, 1e-3, 20), 0.1, 400     # a bowl, and steps on it


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    warmup: int
    runs: int              # seeds that each number of the language model is a mean of
    schedules: list        # rows: name, peak, nats on unseen text
    best: dict             # name → [peak, nats]
    spread: float          # the most that two seeds of one of these rows differ by
    same: dict             # "constant" and "warmup-stable-decay" → training loss, both at 0.01
    bowl: list             # rows: schedule, best peak, expected loss at the end
    bowl_curves: dict      # label → [rate of each step, expected loss]
    floors: list           # rows: constant rate, E[x²] it ends at, derived and by trial (λ = s = 1)
    ranges: list           # rows: steps, rate of the lowest average, suggestion: of each seed
    range_curves: list     # rows: steps, rates, averaged losses of each seed
    moves: list            # root mean square step of AdamW, in rates, at step 1, 2, …
    moves_noise: list      # the same where the gradients are coins
    curvature: list        # rows: steps done, largest curvature
    starts: list           # rows: size of the last layer, largest curvature, loss, at the start
    throughout: list       # rows: kind, limit or None, usual norm, share clipped, nats
    bad_from: int          # first step of the three bad batches
    spikes: list           # rows: kind, limit or None, norms usual and bad, loss before and after
    spike_curves: dict     # "no clipping" / "clipped" → losses of plain steps
    limit: float


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    steps, warmup, runs, bad_from, after = (40, 10, 1, 30, 10) if fast else (400, 30, 3, 120, 80)
    piece = corpus.validation[:2_000] if fast else corpus.validation[20_000:40_000]
    lab = Lab(tokenizer.vocab_size, tokenizer.encode(corpus.train[:1_000_000]),
              tokenizer.encode(piece), seed, runs)
    lengths, sizes = ((50, 100), (1, 100)) if fast else ((100, 300, 1000), (1, 30, 100))
    total = sum(map(len, PEAKS.values())) + len(lengths) + 8
    with progress(total * runs, "training") as bar:
        schedules, best, spread, known = sweep(lab, bar, PEAKS, warmup, steps)
        same = {name: smooth(np.mean([trial.losses for trial in known[name, 0.01]], axis=0))
                for name in ("constant", "warmup-stable-decay")}
        slow = best["constant"][0]
        ranges, range_curves = range_runs(lab, bar, lengths)
        path, starts = curvatures(lab, slow, (0, 30) if fast else (0, 10, 30, 100, 300), sizes)
        moves = lab.run(Constant(slow), min(steps, 100), moves=True).moves
        throughout = clipped_throughout(lab, bar, warmup, steps, known)
        spiked, spike_curves = spikes(lab, bar, bad_from, after, 1.0)
    shown = {"constant, high": Constant(0.16), "constant, low": Constant(0.04),
             "cosine from high": WarmupCosine(0.16, 0)}
    rates = {name: rates_of(schedule, BOWL) for name, schedule in shown.items()}
    bowl_curves = {name: [r, expected_losses(r, CURVATURES, NOISE)] for name, r in rates.items()}
    rng = np.random.default_rng(seed)
    floors = [[r, floor(r, 1.0, 1.0), walk(r, 1.0, 1.0, 200, 5_000 if fast else 50_000, rng)]
              for r in (0.05, 0.1, 0.2)]
    return Result(corpus.name, steps, warmup, runs, schedules, best, spread, rounded(same),
                  compare(CURVATURES, NOISE, BOWL), rounded(bowl_curves), floors, ranges,
                  rounded(range_curves), rounded(moves),
                  rounded([noise_step(t) for t in range(1, len(moves) + 1)]), path, starts,
                  throughout, bad_from, spiked, rounded(spike_curves), 1.0)


def rounded(x):
    """Curves to five digits: they are for the figure only."""
    if isinstance(x, dict):
        return {name: rounded(item) for name, item in x.items()}
    return [rounded(item) for item in x] if hasattr(x, "__len__") else float(f"{x:.5g}")


def table(result):
    rows = [["schedule", "best peak", "nats, unseen", "bowl: best", "loss left"]]
    return rows + [[name, f"{result.best[name][0]:g}", f"{result.best[name][1]:.3f}",
                    f"{peak:.3f}", f"{loss:.4f}"]
                   for name, peak, loss in result.bowl if name in result.best]


def show(result):
    print_table(table(result), f"AdamW, {result.steps} steps, mean of {result.runs}; the bowl: "
                               "plain steps, exact")
    print_table([["range run, steps", "lowest average at", "suggested"], *(
        [n, *(" ".join(f"{x:.4f}" for x in xs) for xs in row)] for n, *row in result.ranges)])
    print_table([["last layer ×", "λ max, start", "loss, start"], *(
        [size, f"{a:.2f}", f"{b:.2f}"] for size, a, b in result.starts)])
    print_table([["steps", "limit", "usual norm", "clipped", "nats"], *(
        [kind, limit or "none", f"{a:.2f}", f"{100 * b:.0f} %", f"{c:.3f}"]
        for kind, limit, a, b, c in result.throughout)], "clipped all the time")
    print_table([["steps", "limit", "norm", "bad norm", "loss before", "next 10", "later"], *(
        [kind, limit or "none", *(f"{x:.2f}" for x in row)] for kind, limit, *row in
        result.spikes)], "three bad batches, six layers")


def draw(result, path):
    from days.day19 import panels  # only here is matplotlib wanted

    panels.draw(result, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
