"""Day 29 · What more heads are worth, what they look at, and what removing them costs."""

import time
from dataclasses import dataclass

import numpy as np

from days.day29.model import AttentionLM, Places, loss_by_place, train, windows
from days.day29.opened import Opened, habits, looks_back
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.functions.heads import multi_head
from llm.tokens.chars import CharTokenizer

C, T, B, SHOWN = 64, 32, 32, 4
RATES = {1: 4.4e-3, 4: 1e-2, 16: 1.5e-2, 64: 1.5e-2}  # the best of each (experiments/heads.py)
SEEDS = {1: 3, 4: 3, 16: 3, 64: 1}
LINE, PART = "To be, or not to be: that is the", 19   # how much of the line is drawn
WIDE, LONG = 256, 256      # channels and tokens of the timing


@dataclass(frozen=True)
class Result:
    corpus: str
    steps: int
    parameters: int    # of each model
    losses: list       # [H, [nats on unseen text of each seed]]
    changes: list      # [H, mean rise when one head is removed, their sum, all removed, all
                       # frozen], each a mean over the seeds
    seeds: list        # of each seed with four heads: rows [share on itself, on the one before,
                       # mean distance, share on spaces, rise if removed, averaged, frozen]
    together: list     # of each of these seeds [rise if all four are removed, if all are frozen]
    own: float         # nats of the first of them on the texts of these measures
    pairs: float       # nats of counted pairs of characters on the same unseen text
    spaces: float      # share of spaces in the text: what a head without a preference would give
    letters: list      # [letter, share on the one before, of the head that looks back most]
    line: str          # the text of the patterns
    patterns: list     # of each head, of each query t: its t + 1 weights on that line
    times: list        # [H, ms of one forward, MB of its weights], 256 tokens of 256 channels


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text + LINE)
    ids = tokenizer.encode(corpus.train)
    unseen = np.array_split(tokenizer.encode(corpus.validation), 2)[1]  # rates: on the other half
    counts, steps, n = ((1, SHOWN), 60, 64) if fast else (tuple(SEEDS), 300, 512)
    seen, texts = (windows(x, n, T, np.random.default_rng(seed + 9)) for x in (ids, unseen))
    space, losses, changes, shown = texts[0] == tokenizer.encode(" ")[0], [], [], []
    seeds = {H: 1 if fast else SEEDS[H] for H in counts}
    with kernels(), progress(sum(seeds.values()) * steps, "training") as advance:
        for H in counts:
            nats, rises, every = [], [], list(range(H))
            for i in range(seeds[H]):
                rng = np.random.default_rng(seed + i)
                model = AttentionLM(tokenizer.vocab_size, C, H, 1, rng, Places(T, C, rng))
                train(model, ids, steps, B, T, rng, advance, rate=RATES[H])
                nats.append(float(loss_by_place(model, unseen, T, 2 * n).mean()))
                layer, pattern = Opened(model, *texts), Opened(model, *seen).weights.mean(axis=0)
                single = [layer.removed([h]) for h in every]
                rises.append([sum(single) / H, sum(single), layer.removed(every),
                              layer.frozen(every, pattern)])
                if H == SHOWN:
                    shown.append((model, layer, rows_of(layer, space, pattern), rises[-1][2:]))
            losses.append([H, nats])
            changes.append([H, *np.mean(rises, axis=0).tolist()])
    model, layer, *_ = shown[0]
    rows, together = ([part[i] for part in shown] for i in (2, 3))
    line = tokenizer.encode(LINE)[None]
    return Result(
        corpus.name, steps, model.count_parameters(), losses, changes, rows, together, layer.own,
        counted_pairs(ids, unseen, tokenizer.vocab_size), float(space.mean()),
        [[a, looks_back(layer.weights[:, first(rows[0], 1)], texts[0], tokenizer.encode(a)[0])]
         for a in "nta "],
        LINE, [[np.round(row[:t + 1], 3).tolist() for t, row in enumerate(w)]
               for w in Opened(model, line, line).weights[0].astype(float)],
        [clock(H) for H in counts])


def rows_of(layer, space, pattern):
    """A row for each head: its four habits; the rise if it is removed, averaged, frozen."""
    return [[*habits(layer.weights[:, h], space), layer.removed([h]), layer.averaged([h]),
             layer.frozen([h], pattern)] for h in range(layer.weights.shape[1])]


def counted_pairs(ids, unseen, V):
    """Nats of the next character by counts of pairs, one added to each (day 05)."""
    counts = np.bincount(ids[:-1] * V + ids[1:], minlength=V * V).reshape(V, V) + 1.0
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log(p[unseen[:-1], unseen[1:]]).mean())


def first(rows, column, sign=1):
    """The head with the largest (sign −1: smallest) entry of a column."""
    return max(range(len(rows)), key=lambda h: sign * rows[h][column])


def clock(H):
    """[H, ms of the fastest of some forwards, MB of weights kept], NumPy."""
    qkv, took = np.random.default_rng(0).standard_normal((1, LONG, 3 * WIDE), np.float32), []
    for _ in range(7):
        started = time.perf_counter()
        saved = multi_head(qkv, H)[1]
        took.append(time.perf_counter() - started)
    return [H, 1000 * min(took), saved[3].nbytes / 1e6]


def table(result):
    head = ["head", "on itself", "one before", "mean distance", "on spaces", "removed", "frozen"]
    rows = [[h, f"{own:.0%}", f"{last:.0%}", f"{far:.1f}", f"{space:.0%}", f"{gone:+.2f}",
             f"{still:+.2f}"]
            for h, (own, last, far, space, gone, _, still) in enumerate(result.seeds[0], 1)]
    gone, still = result.together[0]
    return [head, *rows, ["all four", "", "", "", "", f"{gone:+.2f}", f"{still:+.2f}"]]


def show(result):
    print_table(table(result), f"{SHOWN} heads of one layer, {result.corpus}; "
                "removed, frozen: rise in nats")
    print_table([["heads", "D", "nats", "remove one", "each, summed", "all", "freeze all"]] + [
        [H, C // H, " ".join(f"{x:.2f}" for x in nats), *(f"{x:.2f}" for x in rest)]
        for (H, nats), (_, *rest) in zip(result.losses, result.changes)],
        f"the same {result.parameters:,} parameters, {result.steps} steps")
    print_table([["heads", "ms of one forward", "MB of weights"]] + [
        [H, f"{ms:.1f}", f"{size:.1f}"] for H, ms, size in result.times],
        f"NumPy, {LONG} tokens of {WIDE} channels")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig = plt.figure(figsize=(11, 7.6))
    grid = fig.add_gridspec(2, 3, width_ratios=(1, 1, 0.95))
    letters = [c if c != " " else "␣" for c in result.line[:PART]]
    for h, (weight, row) in enumerate(zip(result.patterns, result.seeds[0])):
        ax = fig.add_subplot(grid[divmod(h, 2)])
        ax.imshow(np.sqrt([r + [0] * (PART - len(r)) for r in weight[:PART]]), cmap="Blues",
                  vmin=0, vmax=1)
        ax.set_xticks(range(PART), letters, fontsize=8.5)
        ax.set_yticks(range(PART), letters, fontsize=8.5)
        ax.tick_params(length=0, pad=2)
        ax.spines[:].set_visible(False)
        ax.text(PART - 1, -0.2, f"head {h + 1}\n{row[0]:.0%} on itself\n{row[1]:.0%} on the one "
                f"before\nremoved {row[4]:+.2f} nats\nfrozen {row[6]:+.2f} nats", ha="right",
                va="top", fontsize=8.5)
        ax.set_xlabel("key", fontsize=9)
        ax.set_ylabel("query", fontsize=9)
    top, bottom = (fig.add_subplot(grid[i, 2]) for i in range(2))
    for H, nats in result.losses:
        top.semilogx([H] * len(nats), nats, "o", color="#1b4965", ms=5, alpha=0.7)
        if len(nats) == 1:
            top.annotate("one seed", (H, nats[0]), (0, 8), color="#1b4965", fontsize=8.5,
                         textcoords="offset points", ha="center")
    heads = [row[0] for row in result.losses]
    top.set(ylabel="nats on unseen text", xlabel="heads, the same parameters")
    for column, label, color in ((3, "remove all at once", "#c8553d"), (4, "freeze all", "#5f8a3c"),
                                 (2, "remove each alone,\nsummed", "#e09f3e")):
        values = [row[column] for row in result.changes]
        bottom.semilogx(heads, values, "o-", color=color, ms=4)
        bottom.annotate(label, (heads[-1], values[-1]), (5, 0), textcoords="offset points",
                        color=color, va="center", fontsize=8.5, annotation_clip=False)
    bottom.set(ylabel="rise of the loss in nats", xlabel="heads", ylim=(0, None))
    for ax in (top, bottom):
        ax.set_xticks(heads, heads)
        ax.minorticks_off()
    (one, alone), (many, best) = result.losses[0], min(result.losses, key=lambda r: np.mean(r[1]))
    summed, together = next(row[2:4] for row in result.changes if row[0] == many)
    fig.suptitle(
        f"{one} head ends at {np.mean(alone):.2f} nats and {many} heads at {np.mean(best):.2f}, "
        f"with the same parameters, each at its own best rate.\nRemoved one at a time, the {many} "
        f"heads cost {summed:.2f} nats in sum; removed all at once they cost {together:.2f}",
        x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
