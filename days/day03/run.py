"""Day 03 · The same sums over contiguous and strided views: what a cache line costs."""

from dataclasses import dataclass

import numpy as np

from days.harness import main, print_table, progress, save
from llm.tensors import walk
from llm.tensors.ndarray import Array, full
from llm.tensors.timing import seconds_each
from llm.tensors.view import run as walk_views

LINE = 64                       # bytes that memory delivers at once, on nearly every machine


@dataclass(frozen=True)
class Result:
    side: int                   # the array is side × side, float32
    views: list                 # [view, shape, strides, elements, ns an element, NumPy's]
    ns: dict                    # ns an element by name
    numpy_ns: dict
    copy_ns: float              # .T.contiguous(): what a packed copy costs, ns an element
    wrong_order: float          # transposed in index order, as a multiple of memory order
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
    naive = "a.T, index order"
    flat = Array(rng.random(length, dtype=np.float32), (length,))
    strided = {2**i: flat[::2**i] for i in range(7)}
    with progress(15, "timing") as step:
        sums = {name: (lambda v=v: v.sum()) for name, (v, _) in views.items()}
        sums[naive] = lambda: walk_sum(a.T, one, [0, 1])
        ours = seconds_each(sums, 5, step=step)
        numpys = seconds_each({k: (lambda y=y: y.sum()) for k, (_, y) in views.items()}, 3,
                              step=step)
        copy = seconds_each({0: a.T.contiguous}, 3)[0]
        sweep = seconds_each({s: v.sum for s, v in strided.items()}, 7, step=step)
    views[naive] = a.T, x.T
    numpys[naive] = numpys["a.T"]
    ns = {k: ours[k] / v.size * 1e9 for k, (v, _) in views.items()}
    numpy_ns = {k: numpys[k] / v.size * 1e9 for k, (v, _) in views.items()}
    worst = max(abs(v.sum().item() / y.sum(dtype=np.float64) - 1) for v, y in views.values())
    return Result(
        side=side, ns=ns, numpy_ns=numpy_ns, copy_ns=copy / a.size * 1e9,
        views=[[k, str(v.shape), str(v.strides), v.size, ns[k], numpy_ns[k]]
               for k, (v, _) in views.items()],
        wrong_order=ours[naive] / ours["a.T"],
        sweep=[[s, 4 * s, sweep[s] * 1e3, sweep[s] / v.size * 1e9, sweep[s] / sweep[1]]
               for s, v in strided.items()],
        sweep_bytes=flat.buffer.nbytes, flat=sweep[LINE // 4] / sweep[1],
        gbs=flat.buffer.nbytes / sweep[1] / 1e9, largest_difference=float(worst))


def walk_sum(source, out, order):
    """Add `source` into `out`, whose axes of length 1 gather, walking the axes in this order."""
    out[...] = 0
    walk_views(walk.reduce, source.shape, (source, out.broadcast_to(source.shape)), walk.ADD,
               order=order)


def table(r):
    return [["sum of", "shape", "strides", "ns an element", "NumPy's"]] + [
        [name, shape, strides, f"{ns:.2f}", "" if "order" in name else f"{np_ns:.2f}"]
        for name, shape, strides, _, ns, np_ns in r.views]


def show(r):
    print_table(table(r), f"a is {r.side} × {r.side}, float32")
    print(f"A packed copy of a.T costs {r.copy_ns:.1f} ns an element.\n")
    print_table([["every k-th", "bytes apart", "additions", "ms", "time", "ns an addition"]] + [
        [k, gap, f"1/{k}" if k > 1 else "all", f"{ms:.1f}", f"{share:.0%}", f"{ns:.2f}"]
        for k, gap, ms, ns, share in r.sweep], f"{r.sweep_bytes / 2**20:.0f} MiB, one pass")


def draw(r, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    gaps = [row[1] for row in r.sweep]
    ax.axvline(LINE, color="0.8", lw=1)
    ax.text(LINE * 1.04, .012, "one cache line:\n64 bytes", color="0.4")
    ax.loglog(gaps, [4 / g for g in gaps], ":", color="0.5")
    ax.text(4.2, .07, "if additions\nwere the cost", color="0.4")
    ax.loglog(gaps, [min(1, LINE / g) for g in gaps], "--", color="0.5")
    ax.text(70, .24, "if lines were\nthe cost", color="0.4")
    ax.loglog(gaps, [row[4] for row in r.sweep], "o-", color="C0")
    ax.text(gaps[2], r.sweep[2][4] * 1.2, "measured", color="C0", ha="center")
    ax.set_xticks(gaps, gaps)
    ax.minorticks_off()
    ax.set_yticks([1, .5, .25, .1, .05, .02], ["100 %", "50 %", "25 %", "10 %", "5 %", "2 %"])
    ax.set(xlabel="bytes from one number that is added to the next (4: each number)",
           ylabel="time of the pass", ylim=(.01, 2.5),
           title=f"Adding every 16th number takes {r.flat:.0%} of the time of adding them all:\n"
                 "memory is delivered in lines of 64 bytes")
    save(fig, path)


if __name__ == "__main__":
    main(__file__, measure, show, draw)
