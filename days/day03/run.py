"""Day 03 · The same sums over contiguous and strided views: what a cache line costs."""

from dataclasses import dataclass

import numpy as np

from days.day03 import loops
from days.harness import main, print_table, progress, save
from llm.tensors import walk
from llm.tensors.ndarray import Array, full
from llm.tensors.timing import seconds_each
from llm.tensors.view import run as walk_views

LINE = 64                       # bytes that memory delivers at once, on most processors
SMALL = 2**16                   # numbers that stay in a core's own cache


@dataclass(frozen=True)
class Result:
    side: int                   # the array is side × side, float32
    views: list                 # [view, shape, strides, elements, ns an element, NumPy's or None]
    ns: dict                    # ns an element by name
    numpy_ns: dict              # the same of NumPy; walks that are not the engine's have none
    copy_ns: float              # .T.contiguous(): what a packed copy costs, ns an element
    wrong_order: float          # transposed in index order, as a multiple of memory order
    loops: dict                 # ns a number, from the cache, of the loops in loops.py
    gathers: dict               # does the machine code of that loop use gather instructions?
    call_us: float              # microseconds that the sum of a 4 × 4 array takes
    sweep: list                 # [stride, stride in bytes, ms, ns an element, share of stride 1]
    sweep_bytes: int            # the buffer of the sweep
    flat: float                 # time at 64 bytes as a share of the time at 4
    gbs: float                  # GB/s that stride 1 reads
    largest_difference: float   # of any of our sums from NumPy's, relative


def measure(fast, seed):
    rng = np.random.default_rng(seed)
    side, length = (1024, 2**21) if fast else (4096, 2**25)
    x = rng.random((side, side), dtype=np.float32)
    a, one = Array(x.ravel(), x.shape), full((), 0, "float64")
    views = {
        "a": (a, x), "a.T": (a.T, x.T), "a[::-1, ::-1]": (a[::-1, ::-1], x[::-1, ::-1]),
        "a[:, ::2]": (a[:, ::2], x[:, ::2]), "a[:, ::16]": (a[:, ::16], x[:, ::16]),
        "a[::16]": (a[::16], x[::16]),
        "a[:1], repeated": (a[:1].broadcast_to(a.shape), np.broadcast_to(x[:1], x.shape))}
    wide = Array(rng.random(side * (side + 16), np.float32), (side, side), (side + 16, 1))
    walks = {"a.T": a.T, "padded.T": wide.T, "a[:256].T": a[:256].T,
             "padded[:256].T": wide[:256].T, "a[:1], repeated": views["a[:1], repeated"][0]}
    walks = {name + ", index order": view for name, view in walks.items()}
    flat = Array(rng.random(length, dtype=np.float32), (length,))
    strided = {2**i: flat[::2**i] for i in range(8)}
    with progress(24, "timing") as step:
        sums = {name: (lambda v=v: v.sum()) for name, (v, _) in views.items()}
        sums |= {name: (lambda v=v: walk_sum(v, one, [0, 1])) for name, v in walks.items()}
        ours = seconds_each(sums, 5, step=step)
        numpys = seconds_each({k: (lambda y=y: y.sum()) for k, (_, y) in views.items()}, 3,
                              step=step)
        small = small_loops(rng.random(SMALL, dtype=np.float32))
        loop = seconds_each({k: call for k, (_, call) in small.items()}, 9, step=step)
        call = seconds_each({0: full((4, 4), 1).sum}, 5)[0]
        copy = seconds_each({0: a.T.contiguous}, 3)[0]
        sweep = seconds_each({s: v.sum for s, v in strided.items()}, 7, step=step)
    seen = {name: v for name, (v, _) in views.items()} | walks
    ns = {k: ours[k] / v.size * 1e9 for k, v in seen.items()}
    numpy_ns = {k: numpys[k] / v.size * 1e9 for k, (v, _) in views.items()}
    worst = max(abs(v.sum().item() / y.sum(dtype=np.float64) - 1) for v, y in views.values())
    return Result(
        side=side, ns=ns, numpy_ns=numpy_ns, copy_ns=copy / a.size * 1e9,
        views=[[k, str(v.shape), str(v.strides), v.size, ns[k], numpy_ns.get(k)]
               for k, v in seen.items()],
        wrong_order=ours["a.T, index order"] / ours["a.T"], call_us=call * 1e6,
        loops={k: seconds / (SMALL // 2 if "gap" in k else SMALL) * 1e9
               for k, seconds in loop.items()},
        gathers={k: loops.gathers(compiled) for k, (compiled, _) in small.items()},
        sweep=[[s, 4 * s, sweep[s] * 1e3, sweep[s] / v.size * 1e9, sweep[s] / sweep[1]]
               for s, v in strided.items()],
        sweep_bytes=flat.buffer.nbytes, flat=sweep[LINE // 4] / sweep[1],
        gbs=flat.buffer.nbytes / sweep[1] / 1e9, largest_difference=float(worst))


def small_loops(x):
    """name -> (a loop of loops.py, its call on numbers in the cache); a gap adds every second."""
    every = {"signed": loops.signed, "unsigned": loops.unsigned}
    gap = {"gap, one sum": loops.one_sum, "gap, four sums": loops.four_sums,
           "gap, four sums, free": loops.four_sums_free}
    return ({k: (f, lambda f=f: f(x, 0, x.size)) for k, f in every.items()}
            | {k: (f, lambda f=f: f(x, 0, 2, x.size // 2)) for k, f in gap.items()})


def walk_sum(source, out, order):
    """Add `source` into `out`, whose axes of length 1 gather, walking the axes in this order."""
    out[...] = 0
    walk_views(walk.reduce, source.shape, (source, out.broadcast_to(source.shape)), walk.ADD,
               order=order)


def table(r):
    return [["sum of", "shape", "strides", "ns an element", "NumPy's"]] + [
        [name, shape, strides, f"{ns:.2f}", "" if np_ns is None else f"{np_ns:.2f}"]
        for name, shape, strides, _, ns, np_ns in r.views]


def show(r):
    print_table(table(r), f"a is {r.side} × {r.side}, float32")
    print(f"a.T copied: {r.copy_ns:.1f} ns an element. A sum of 16: {r.call_us:.0f} µs.\n")
    print_table([["loop, from the cache", "ns a number", "gather instructions"]] + [
        [name, f"{ns:.2f}", "yes" if r.gathers[name] else "no"] for name, ns in r.loops.items()])
    print_table([["every k-th", "bytes apart", "additions", "ms", "time", "ns an addition"]] + [
        [k, gap, f"1/{k}" if k > 1 else "all", f"{ms:.1f}", f"{100 * share:.0f} %", f"{ns:.2f}"]
        for k, gap, ms, ns, share in r.sweep], f"{r.sweep_bytes / 2**20:.0f} MiB, one pass")


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    gaps = [row[1] for row in r.sweep]
    ax.axvline(LINE, color="0.8", lw=1)
    ax.text(LINE * 1.04, .012, "one cache line:\n64 bytes", color="0.4")
    additions = r.loops["gap, four sums"] * r.sweep_bytes / 4e6 / r.sweep[0][2]
    ax.loglog(gaps[1:], [4 * additions / g for g in gaps[1:]], ":", color="0.5")
    ax.text(14, .1, "if additions were the cost\n(without SIMD, from the cache)", color="0.4",
            ha="center")
    for lines, style, words, x, y in ((1, "--", "if lines were\nthe cost", 540, .1),
                                      (2, "-.", "if pairs of\nlines were", 540, .22)):
        ax.loglog(gaps, [min(1, lines * LINE / g) for g in gaps], style, color="0.5")
        ax.text(x, y, words, color="0.4")
    ax.loglog(gaps, [row[4] for row in r.sweep], "o-", color="C0")
    ax.text(gaps[1], r.sweep[1][4] * 1.15, "measured", color="C0", ha="center")
    ax.set_xticks(gaps, gaps)
    ax.minorticks_off()
    ax.set_yticks([1, .5, .25, .1, .05, .02], ["100 %", "50 %", "25 %", "10 %", "5 %", "2 %"])
    ax.set(xlabel="bytes from one number that is added to the next (4: each number)",
           ylabel="time of the pass (adding all: 100 %)", xlim=(3.6, 1300), ylim=(.01, 2.5),
           title=f"Adding only every 16th number takes {100 * r.flat:.0f} % of the time of adding "
                 "all:\n"
                 "skipping numbers saves no time while every line of 64 bytes is still touched")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
