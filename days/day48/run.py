"""Day 48 · What the mean subtraction does in a trained GPT, and what RMSNorm and SwiGLU cost."""

from dataclasses import dataclass

import numpy as np

from days.day35.trained import trained
from days.day48 import control, fold
from days.day48.timing import activation_times, norm_times, numpy_times
from days.harness import main, print_table, print_text, progress, save
from llm.data.batches import sliding_windows
from llm.train.fast_gated import fast as kernels


@dataclass(frozen=True)
class Result:
    corpus: str
    C: int                # channels of the reader's GPT
    shares: list          # at each of its norms: how much of x's squared length lies along 1
    chance: float         # of a random direction: 1/C
    gradient: float       # the same share of the gradient that reaches the stream
    nats: list            # a token: as trained, folded into RMSNorms, means left in
    nats_first: list      # the same on the first half of the held-out text
    apart: list           # largest difference of logits over their spread: folded, means left in
    tokens: int           # on so many held-out ones
    control: list         # [norm, [mean share of a small GPT trained with it, by seed]]
    control_chance: float
    control_gradient: list    # [norm, [the gradient's share, by seed]]
    growth: list          # [norm, [[along 1, in all] by seed]]: times longer, squared
    small: list           # N, C of the arrays in the cache
    large: list           # … of those from memory
    times: list           # [kernel, bytes small, ms, bytes large, ms]


def measure(fast, seed):
    reader, rng = trained(fast), np.random.default_rng(seed)
    model, T = reader.model, reader.config.T
    unseen, n = reader.corpus.validation, 2000 if fast else 60_000
    first, ids = (reader.tokenizer.encode(unseen[i:i + n]) for i in (0, len(unseen) // 2))
    small, large, repeats = ((64, 24), (256, 48), 5) if fast else ((1024, 96), (16384, 768), 25)
    with kernels(), progress(6 + control.runs(fast), "measuring") as tick:
        models = [model, fold.Folded(model), fold.without_means(model)]
        nats_first, nats = ([fold.nats(m, half, T) for m in models] for half in (first, ids))
        tick(3)
        found = control.shares_after_training(reader.corpus, seed, fast, tick)
        times = [a + b for a, b in zip(
            *(norm_times(*shape, rng, repeats) + activation_times(shape[0] // cut, shape[1], rng,
                                                                  repeats)
              + numpy_times(*shape, rng, 3) for shape, cut in ((small, 1), (large, 4))),
            strict=True)]
        tick(3)
        return Result(
            reader.corpus.name, reader.config.C, fold.shares(model, ids, T), 1 / reader.config.C,
            fold.gradient_along_one(model, *next(sliding_windows(ids, 8, T, T))), nats, nats_first,
            [fold.apart(model, m, ids, T) for m in models[1:]], len(ids) - 1, found["shares"],
            found["chance"], found["gradients"], found["growth"], list(small), list(large),
            [[name, size, ms, size2, ms2] for name, size, ms, _, size2, ms2 in times])


def table(result):
    rows = [["one call", f"{shape(result.small)}, µs", "GB/s", f"{shape(result.large)}, ms",
             "GB/s "]]
    for name, size, ms, size2, ms2 in result.times:
        rows.append([name, f"{1000 * ms:.0f}", f"{size / ms / 1e6:.1f}", f"{ms2:.2f}",
                     f"{size2 / ms2 / 1e6:.1f}"])
    return rows


def shape(pair):
    return f"{pair[0]:,} × {pair[1]}"


def show(result):
    print_table(table(result), "norms on N × C numbers; GELU and SwiGLU at equal parameters")
    print_text(f"share of the stream's squared length along 1: "
               f"{min(result.shares):.5f} to {max(result.shares):.5f}; "
               f"by chance {result.chance:.5f}")
    print_table([["the reader's GPT", "nats a token", "logits apart"],
                 ["as trained", f"{result.nats[0]:.5f}", ""],
                 ["folded into RMSNorms", f"{result.nats[1]:.5f}", f"{result.apart[0]:.1e}"],
                 ["means left in", f"{result.nats[2]:.5f}", f"{result.apart[1]:.1e}"]])
    print_table([["small GPTs, trained with", "share, by seed", "of the gradient"]] + [
        [name, ", ".join(f"{x:.4f}" for x in shares), ", ".join(f"{x:.1e}" for x in gradient)]
        for (name, shares), (_, gradient) in zip(result.control, result.control_gradient,
                                                 strict=True)],
        f"by chance {result.control_chance:.4f}")


def draw(result, path):
    """Left: the share along 1 at every norm. Right: bandwidth of the norms and their floors."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.1), width_ratios=[1, 1.15])
    left.plot(range(1, len(result.shares) + 1), result.shares, "o-", color="#1f5a99",
              label="the reader's GPT, with LayerNorm")
    left.axhline(result.chance, color="#8a8a8a", ls="--", lw=1)
    left.annotate("a random direction: 1/C", (1, result.chance), (0, 5), color="#666666",
                  textcoords="offset points")
    left.set(xlabel="norm, from the first to the last", yscale="log",
             ylabel="share of the squared length along 1",
             ylim=(min(result.shares) / 2.5, result.chance * 2.5))
    left.set_xticks(range(1, len(result.shares) + 1))
    left.legend(loc="lower left")
    rows = result.times[:6]
    for side, (size, ms, color) in enumerate(((1, 2, "#9ec5e8"), (3, 4, "#1f5a99"))):
        bars = right.barh([y - .2 + .4 * side for y in range(6)],
                          [row[size] / row[ms] / 1e6 for row in rows], .38, color=color,
                          label=(f"{shape(result.small)}, in the cache",
                                 f"{shape(result.large)}, from memory")[side])
        right.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    right.set_yticks(range(6), [row[0] for row in rows])
    right.invert_yaxis()
    right.margins(x=.1)
    right.set_xlabel("GB moved a second, all threads")
    right.legend(loc="lower center", bbox_to_anchor=(.4, 1), ncols=2, fontsize=8)
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def title(result):
    """The finding, from the numbers."""
    less = result.chance / np.mean(result.shares)
    rms, ln = result.times[1][4], result.times[2][4]
    close = "about as long as" if abs(rms / ln - 1) < .2 else f"{rms / ln:.2f} times as long as"
    return (f"LayerNorm subtracts a part {less:.0f} times smaller than that of a random direction;"
            f"\nfrom memory, RMSNorm's forward takes {close} LayerNorm's")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
