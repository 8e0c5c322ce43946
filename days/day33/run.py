"""Day 33 · Parameters, FLOPs and kept activations of a block: counted, measured, and compared."""

from dataclasses import dataclass

import numpy as np

from days.day33.account import Row, account
from days.day33.worth import VARIANTS, nats
from days.harness import kernels, main, print_table, progress, save, say
from llm.data.text import load_or_default
from llm.layers.block import count_flops, count_saved
from llm.tokens.chars import CharTokenizer


@dataclass(frozen=True)
class Result:
    corpus: str
    rows: list
    longer: list      # [T, FLOPs a token of matrices, of attention, then bytes kept a token:
                      #  all but attention's weights, those weights]
    shape: list       # C, H of `longer`
    flops_cross: int  # T at which attention costs as much as the matrices: 6 C
    saved_cross: int  # T at which its weights take as much memory as all else: about 16 D
    worth: list       # [name, C, parameters of the model, nats on unseen text by seed]
    steps: int        # of training, for `worth`


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids, unseen, V = (tokenizer.encode(corpus.train), tokenizer.encode(corpus.validation),
                      tokenizer.vocab_size)
    C, H = (32, 4) if fast else (128, 4)
    shapes = [(C, H, 16), (C, H, 64)] if fast else [
        (64, 4, 64), (C, H, 64), (C, H, 512), (C, H, 768), (C, H, 1024), (768, 12, 128)]
    rows = [account(*shape, unseen, V, seed) for shape in shapes]
    longer = [[T, count_flops(C, 0), count_flops(C, T) - count_flops(C, 0),
               4 * count_saved(C, 0, H), 4 * H * T] for T in (2**i for i in range(4, 13))]
    variants, seeds, steps, n = (VARIANTS[::4], 1, 10, 32) if fast else (VARIANTS, 3, 300, 512)
    worth = []
    with kernels(), progress(len(variants) * seeds * steps, "training") as advance:
        for variant in variants:
            found = [nats(variant, V, ids, unseen[len(unseen) // 2:], steps, n,
                          np.random.default_rng(seed + i), advance) for i in range(seeds)]
            worth.append([*variant[:2], found[0][0], [loss for _, loss in found]])
    return Result(corpus.name, rows, longer, [C, H], 6 * C, round(count_saved(C, 0, H) / H),
                  worth, steps)


def table(result):
    head = ["C", "H", "T", "parameters", "FLOPs", "backward", "bytes", "off by"]
    return [head] + [[r.C, r.H, f"{r.T:,}", f"{r.parameters:,}", f"{r.flops:,}",
                      f"{r.backward:g}", f"{r.saved:,}", f"{off(r):g}"] for r in rows(result)]


def rows(result):
    """As Rows, also where they come from result.json."""
    return [row if isinstance(row, Row) else Row(**row) for row in result.rows]


def off(r):
    """The largest difference between a count and what was measured."""
    return max(abs(a - b) for a, b in [(r.parameters, r.parameters_measured),
                                       (r.flops, r.flops_measured), (r.saved, r.saved_measured)])


def show(result):
    print_table(table(result), "one block; FLOPs (forward) and bytes kept are for one token")
    print("in NumPy, GFLOP/s:", *(f"{r.gflops:.0f}" for r in result.rows),
          "· time in products:", *(f"{r.products:.0%}" for r in result.rows))
    print(f"C = {result.shape[0]}, H = {result.shape[1]}: attention costs as much as the matrices "
          f"at T = {result.flops_cross:,},\nits weights fill as much memory as all else at "
          f"T = {result.saved_cross:,}")
    print_table([["feed-forward", "C", "parameters", "nats", "lowest to highest"]] + [
        [name, C, f"{n:,}", f"{np.mean(x):.3f}", f"{min(x):.3f} to {max(x):.3f}"]
        for name, C, n, x in result.worth], f"one block, {result.steps} steps, {result.corpus}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 4))
    (C, H), T = result.shape, [row[0] for row in result.longer]
    dots = [r for r in rows(result) if (r.C, r.H) == (C, H)]
    flops, saved = "MFLOPs a token", "kB kept a token"
    panels = [
        (1, "flops_measured", result.flops_cross, 1e6, flops, "matrices", "attention"),
        (3, "saved_measured", result.saved_cross, 1e3, saved, "all else", "T × T weights")]
    for ax, (i, measured, cross, unit, label, fixed, growing) in zip(axes, panels):
        rest, grow = (np.array([row[j] for row in result.longer]) / unit for j in (i, i + 1))
        ax.loglog(T, rest, color="#1b4965")
        ax.loglog(T, grow, color="#c8553d")
        ax.loglog(T, rest + grow, color="#222222", lw=1, ls=":")
        ax.loglog([r.T for r in dots], [getattr(r, measured) / unit for r in dots], "o",
                  color="#222222", ms=5, label="both, measured")
        for text, at, by, color in ((fixed, (T[0], rest[0]), (0, -14), "#1b4965"),
                                    (growing, (T[3], grow[3]), (8, -24), "#c8553d")):
            ax.annotate(text, at, by, textcoords="offset points", color=color)
        ax.axvline(cross, color="#bbbbbb", lw=1, zorder=0)
        ax.text(cross * 1.1, ax.get_ylim()[0] * 1.2, f"T = {cross}", color="#777777", fontsize=9)
        ax.set(xlabel="T, tokens of context", ylabel=label,
               xticks=[16, 64, 256, 1024, 4096], xticklabels=["16", "64", "256", "1,024", "4,096"])
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
    axes[0].legend(loc="upper left")
    fig.suptitle(f"C = {C}, H = {H}: attention's FLOPs overtake the matrices at T = "
                 f"{result.flops_cross},\nits weights overtake all else that is kept already at "
                 f"T = {result.saved_cross}", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
