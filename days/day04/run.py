"""Day 04 · Six ways to multiply matrices, on the roofline of this machine."""

import os
from dataclasses import dataclass
from functools import partial

import numpy as np

from days.day04 import controls
from days.harness import main, print_table, progress, save
from llm.tensors import matmul, roofline
from llm.tensors.timing import seconds_each


@dataclass(frozen=True)
class Result:
    n: int                   # the matrices are n × n, float32
    python_n: int            # but smaller for plain Python
    ways: list               # [name, size, ms, GFLOP/s]
    gflops: dict             # the last column by name
    off_power: int           # a size near n that is no power of two
    in_cache: int            # a size whose matrices all fit into a core's own cache
    elsewhere: dict          # GFLOP/s of the three orders at these two sizes
    panels: dict             # GFLOP/s of the register blocks on one thread, by size of the panel
    best_of_blas: float      # the best Numba version as a share of BLAS, both on all threads
    blas_kernel: str         # which kernel OpenBLAS chose for this processor
    blas_one_thread: float   # its GFLOP/s on one thread
    avx2_gflops: float       # BLAS when told to use its 256-bit kernel (0: not measured)
    one_core_gbs: float      # streaming read, GB/s
    all_cores_gbs: float
    ridge: float             # FLOPs per byte where memory stops being the limit
    rows: list               # [rows of a, FLOPs/byte, GFLOP/s, bound] for BLAS with a big b
    b_shape: list            # the big b
    worst_error: float       # of all ways against float64, relative to the largest entry


def measure(fast, seed):
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")   # or idle pools steal the cores; day 38
    rng = np.random.default_rng(seed)
    n, python_n, others, side, wide, sizes = (
        (256, 48, (250, 64), 1024, 1024, [1, 16, 256]) if fast else
        (1024, 160, (1000, 128), 4096, 11008, [2**i for i in range(11)]))   # wide as Llama-7B's
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in "ab")
    big = rng.standard_normal((side, wide), dtype=np.float32)
    blas = roofline.Blas()
    ways = {
        "1 · Python, i j k": matmul.python_loops,
        "2 · Numba, i j k": matmul.dot_order,
        "3 · Numba, j k i": matmul.column_order,
        "3 · Numba, i k j": matmul.row_order,
        "4 · + cache panel": matmul.blocked,
        "5 · + registers": lambda a, b: matmul.tiled(a, b, threads=1),
        "5 · + all threads": matmul.tiled,
        "6 · BLAS": np.matmul}
    size = {name: python_n if "Python" in name else n for name in ways}
    part = a[:96, :112], b[:112, :80]               # verify (and compile) first, then time
    exact = part[0].astype(np.float64) @ part[1]
    error = max(np.abs(f(*part) - exact).max() for f in ways.values()) / np.abs(exact).max()
    calls = {k: lambda f=f, m=size[k]: f(a[:m, :m], b[:m, :m]) for k, f in ways.items()}
    with progress(17 + len(sizes), "timing") as step:
        seconds = seconds_each(calls, warm=False, step=step)
        elsewhere = controls.elsewhere({k: f for k, f in ways.items() if "Numba" in k}, a, b,
                                       others, step)
        panels = controls.panels(a, b, step)
        cores = blas.threads()
        blas.set_threads(1)
        alone = seconds_each({0: lambda: a @ b})[0]
        blas.set_threads(cores)
        stream = rng.random(2**22 if fast else 2**26, dtype=np.float32)
        reads = seconds_each({t: lambda t=t: roofline.read_all(stream, t) for t in (1, None)})
        rows = []
        for m in sizes:
            some = a[:1, :1] * np.ones((m, side), np.float32)
            each = seconds_each({0: partial(np.matmul, some, big)}, 5)[0]
            rows.append([m, roofline.intensity(m, side, wide),
                         roofline.flops(m, side, wide) / each / 1e9])
            step()
    gflops = {k: roofline.flops(m, m, m) / seconds[k] / 1e9 for k, m in size.items()}
    gbs = {t: stream.nbytes / reads[t] / 1e9 for t in reads}
    peak, slope = max(gflops["6 · BLAS"], *(row[2] for row in rows)), max(gbs.values())
    rows = [[*row, roofline.attainable(row[1], peak, slope)] for row in rows]
    return Result(
        n=n, python_n=python_n, gflops=gflops,
        ways=[[k, m, seconds[k] * 1e3, gflops[k]] for k, m in size.items()],
        off_power=others[0], in_cache=others[1], elsewhere=elsewhere, panels=panels,
        best_of_blas=gflops["5 · + all threads"] / gflops["6 · BLAS"], blas_kernel=blas.kernel,
        blas_one_thread=roofline.flops(n, n, n) / alone / 1e9,
        avx2_gflops=0.0 if fast else roofline.blas_with("Haswell", n),
        one_core_gbs=gbs[1], all_cores_gbs=gbs[None], ridge=roofline.ridge(peak, slope),
        rows=rows, b_shape=[side, wide], worst_error=float(error))


def table(r):
    best = r.gflops["6 · BLAS"]
    return [["way", "size", "ms", "GFLOP/s", "share of BLAS",
             f"GFLOP/s at {r.off_power}³", f"at {r.in_cache}³"]] + [
        [name, f"{size}³", f"{ms:,.1f}", f"{gf:.3g}", f"{gf / best:.2%}" if gf < .1 * best else
         f"{gf / best:.0%}", *(f"{other:.3g}" for other in r.elsewhere.get(name, []))]
        + [""] * (name not in r.elsewhere) * 2 for name, size, ms, gf in r.ways]


def show(r):
    print_table(table(r), f"c = a @ b, float32; BLAS kernel: {r.blas_kernel}")
    print(f"Reading memory: {r.one_core_gbs:.0f} GB/s on one core, {r.all_cores_gbs:.0f} on all; "
          f"so below\n{r.ridge:.0f} FLOPs per byte memory is the limit, above it arithmetic.")
    print(f"The best Numba version reaches {r.best_of_blas:.0%} of BLAS.")


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    slope, peak = max(r.one_core_gbs, r.all_cores_gbs), max(row[3] for row in r.rows)
    x = np.geomspace(0.25, 1200, 200)
    ax.loglog(x, [roofline.attainable(i, peak, slope) for i in x], color="black", lw=1.5)
    ax.text(.27, slope * .55, f"memory: {slope:.0f} GB/s", rotation=38, va="bottom")
    ax.text(.27, peak * 1.2, f"the most that BLAS reached: {peak:.0f} GFLOP/s")
    ax.plot([row[1] for row in r.rows], [row[2] for row in r.rows], "o-", color="C0", ms=4, lw=1)
    for m, i, g, _ in (row for row in r.rows if row[0] in (1, 2, 16, 128, 1024)):
        ax.text(i, g * (.62 if g < .9 * peak else 1.3), m, c="C0", ha="center", va="center", size=9)
    ax.text(1.1, 3.2, f"BLAS, this many rows times\na {r.b_shape[0]} × {r.b_shape[1]} matrix",
            color="C0")
    at, low = r.n / 6, 0.0
    for name, _, _, gf in sorted(r.ways[1:], key=lambda w: w[3]):
        ax.plot(at, gf, "s", color="C3", ms=4)
        low = max(gf, low * 1.5)
        ax.annotate(name[4:], (at, gf), (1500, low), color="C3", va="center", fontsize=9,
                    annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": "C3", "lw": .5, "relpos": (0, .5)})
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="arithmetic intensity: FLOPs for each byte that must move", ylabel="GFLOP/s",
           xlim=(.25, 1200), ylim=(.1, peak * 2.5),
           title=f"One {r.n}³ product, the same bytes to move: loop order, registers and threads\n"
                 f"take it from {min(w[3] for w in r.ways[1:]):.1g} to "
                 f"{r.gflops['5 · + all threads']:.0f} GFLOP/s")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
