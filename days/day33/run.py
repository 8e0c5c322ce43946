"""Day 33 · Parameters, FLOPs and kept activations of a block: counted, measured, and compared."""

import time
from dataclasses import dataclass

import numpy as np

from days.day33.counting import counted
from days.harness import main, print_table, save, say
from llm.data.text import load_or_default
from llm.grad.tensor import Tensor, no_grad
from llm.grad.walk import saved_bytes
from llm.layers.attention import MultiHeadAttention
from llm.layers.block import Block, FeedForward, count_flops, count_parameters, count_saved
from llm.layers.module import Embedding
from llm.layers.norm import LayerNorm
from llm.tokens.chars import CharTokenizer

B = 2


@dataclass(frozen=True)
class Row:
    C: int
    H: int
    T: int
    parameters: int
    parameters_measured: int
    flops: int             # forward, a token
    flops_measured: float
    backward: float        # backward over forward, measured
    saved: int             # bytes a token, float32
    saved_measured: float
    gflops: float          # forward FLOPs a nanosecond, median


@dataclass(frozen=True)
class Result:
    corpus: str
    rows: list
    longer: list      # [T, FLOPs a token of matrices, of attention, then bytes kept a token:
                      #  all but attention's weights, those weights]
    shape: list       # C, H of `longer`
    flops_cross: int  # T at which attention costs as much as the matrices: 6 C
    saved_cross: int  # T at which its weights take as much memory as all else: about 16 D


def measure(fast, seed):
    corpus = load_or_default("shakespeare", say)
    tokenizer = CharTokenizer.from_text(corpus.text)
    ids = tokenizer.encode(corpus.validation)
    shapes = [(32, 4, 16), (32, 4, 64)] if fast else [
        (64, 4, 64), (128, 4, 64), (128, 4, 256), (128, 4, 1024), (384, 6, 128), (768, 12, 128)]
    rows = [look(C, H, T, ids, tokenizer.vocab_size, seed) for C, H, T in shapes]
    C, H = (32, 4) if fast else (128, 4)
    longer = [[T, count_flops(C, 0), count_flops(C, T) - count_flops(C, 0),
               4 * count_saved(C, 0, H), 4 * H * T] for T in (2**i for i in range(4, 13))]
    return Result(corpus.name, rows, longer, [C, H], 6 * C, round(count_saved(C, 0, H) / H))


def look(C, H, T, ids, V, seed):
    """One block on B texts of T characters: what it counts and what it really takes."""
    rng = np.random.default_rng(seed)
    block = Block(LayerNorm(C), MultiHeadAttention(C, H, rng), LayerNorm(C), FeedForward(C, rng))
    x = Tensor(Embedding(V, C, rng)(ids[:B * T].reshape(B, T)).data, requires_grad=True)
    with counted() as flops:
        out = block(x)
        forward = flops()
        out.sum().backward()
        both = flops()
    saved = saved_bytes(block(x))
    seconds = []
    with no_grad():
        for _ in range(7):
            started = time.perf_counter()
            block(x)
            seconds.append(time.perf_counter() - started)
    return Row(C, H, T, count_parameters(C), block.count_parameters(), count_flops(C, T),
               forward / (B * T), (both - forward) / forward, 4 * count_saved(C, T, H),
               saved / (B * T), forward / np.median(seconds) / 1e9)


def table(result):
    head = ["C", "H", "T", "parameters", "FLOPs a token", "measured", "backward",
            "bytes kept a token", "measured"]
    return [head] + [[r.C, r.H, r.T, f"{r.parameters:,}", f"{r.flops:,}",
                      f"{r.flops_measured:,.0f}", f"{r.backward:.2f} ×",
                      f"{r.saved:,}", f"{r.saved_measured:,.0f}"]
                     for r in result.rows]


def show(result):
    print_table(table(result), "one block, forward; backward in units of forward")
    speeds = [r.gflops for r in result.rows]
    print(f"forward in NumPy: {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s")
    print(f"C = {result.shape[0]}, H = {result.shape[1]}: attention costs as much as the matrices "
          f"at T = {result.flops_cross:,},\nits weights fill as much memory as all else at "
          f"T = {result.saved_cross:,}")


def draw(result, path):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 4))
    C, H = result.shape
    T = [row[0] for row in result.longer]
    measured = [r for r in result.rows if (r.C, r.H) == (C, H)]
    panels = [("FLOPs", 1, 2, "flops_measured", result.flops_cross, 1e6, "MFLOPs a token"),
              ("memory", 3, 4, "saved_measured", result.saved_cross, 1e3, "kB kept a token")]
    for ax, (_, fixed, growing, name, cross, unit, label) in zip(axes, panels):
        rest = np.array([row[fixed] for row in result.longer]) / unit
        grow = np.array([row[growing] for row in result.longer]) / unit
        ax.loglog(T, rest, color="#1b4965")
        ax.loglog(T, grow, color="#c8553d")
        ax.loglog(T, rest + grow, color="#222222", lw=1, ls=":")
        ax.loglog([r.T for r in measured], [getattr(r, name) / unit for r in measured], "o",
                  color="#222222", ms=5)
        ax.annotate("matrices" if fixed == 1 else "all but the weights", (T[0], rest[0]), (0, -12),
                    textcoords="offset points", color="#1b4965")
        ax.annotate("attention" if fixed == 1 else "attention's weights", (T[3], grow[3]), (6, -10),
                    textcoords="offset points", color="#c8553d")
        ax.axvline(cross, color="#bbbbbb", lw=1)
        ax.text(cross * 1.1, ax.get_ylim()[0] * 1.2, f"T = {cross}", color="#777777", fontsize=9)
        ax.set(xlabel="T, tokens of context", ylabel=label,
               xticks=[16, 64, 256, 1024, 4096], xticklabels=["16", "64", "256", "1,024", "4,096"])
        ax.minorticks_off()
    axes[0].annotate("dots: measured", (T[4], (result.longer[4][1] + result.longer[4][2]) / 1e6),
                     (0, 14), textcoords="offset points", color="#222222", ha="center")
    fig.suptitle(f"C = {C}, H = {H}: attention's FLOPs overtake the matrices at T = "
                 f"{result.flops_cross},\nits memory overtakes all else already at T = "
                 f"{result.saved_cross}", x=0.01, ha="left", fontsize=11)
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
