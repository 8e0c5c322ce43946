"""Day 38 · A training step before and after: each primitive on NumPy and on its kernel."""

from dataclasses import dataclass

import numpy as np

from days.day38.apart import apart, prepare_environment
from days.day38.sides import CASES, compare, sgemm_peak
from days.day38.timing import in_turns, one_step, primitive_times
from days.harness import main, print_table, progress, save


@dataclass(frozen=True)
class Result:
    shape: str                    # of the GPT and its batch
    names: list                   # of the primitives, forward and backward together
    numpy_ms: list                # one call of each on the reference
    kernel_ms: list               # … and on its twin
    step_numpy_ms: float          # forward, loss, backward, clip, AdamW
    step_kept_ms: float | None    # … with freed memory kept; None with --fast, as the next
    step_spins_ms: float | None   # … on kernels, while both pools of threads wait actively
    step_kernel_ms: float         # … while they sleep
    page_faults: list             # in one step of each
    sgemm_gflops: float
    share_numpy: float            # of that, in a step
    share_kernel: float


def measure(fast, seed):
    """Time every primitive at one GPT's shapes, then whole steps."""
    B, T, L, H, C, V = (2, 16, 1, 2, 32, 65) if fast else (12, 64, 4, 4, 128, 65)
    sides = ["numpy", "kept", "spins", "ours"]
    with progress(2 + len(sides), "timing") as tick:
        if fast:
            times = primitive_times(B, T, H, C, V, seed, repeats=3)
            tick()
            numpy_ms, ours = in_turns([one_step(B, T, L, H, C, V, seed, kernels)
                                       for kernels in (False, True)], repeats=15)
            steps, faults, peak = [numpy_ms, None, None, ours], [], sgemm_peak()
        else:                                 # each side in a process of its own, taking turns
            prepare_environment()
            times = apart(primitive_times, B, T, H, C, V, seed, 30)
            tick()
            found = compare((*CASES[0][:-2], 4, 10), sides, lambda line: tick())
            steps = [found["milliseconds"][side] for side in sides]
            faults = [found["page_faults_a_step"][side] for side in sides]
            peak = found["sgemm_gflops"]
    work = B * T * (6 * (12 * L * C * C + V * C) + 6 * T * C * L) / 1e9
    return Result(f"B {B}, T {T}, L {L}, H {H}, C {C}, V {V}", *times, *steps, faults, peak,
                  *(work / (ms / 1000) / peak for ms in (steps[0], steps[3])))


def stages(result):
    """[(name of a step, ms)] in the order of the changes, each with all before it."""
    found = [("NumPy", result.step_numpy_ms), ("freed memory kept", result.step_kept_ms),
             ("kernels, threads spin", result.step_spins_ms),
             ("kernels, threads sleep", result.step_kernel_ms)]
    return [(name, ms) for name, ms in found if ms]


def table(result):
    rows = [["forward and backward", "NumPy, ms", "kernel, ms", "ratio"]]
    for name, slow, quick in zip(result.names, result.numpy_ms, result.kernel_ms, strict=True):
        rows.append([name, f"{slow:.2f}", f"{quick:.2f}", f"{slow / quick:.1f}"])
    return rows


def show(result):
    print_table(table(result), title=result.shape)
    print_table([["a training step", "ms", "× the kernels'"]]
                + [[name, f"{ms:.1f}", f"{ms / result.step_kernel_ms:.2f}"]
                   for name, ms in stages(result)])
    print(f"share of sgemm's {result.sgemm_gflops:.0f} GFLOP/s in a step: "
          f"{result.share_numpy:.0%} on NumPy, {result.share_kernel:.0%} on kernels")
    if result.page_faults:
        print("page faults a step: " + ", ".join(f"{n:,.0f}" for n in result.page_faults))


def draw(result, path):
    """Left: the step, change by change. Right: each primitive on both sides."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), width_ratios=[1.1, 1])
    names, values = zip(*stages(result), strict=True)
    colours = ["#1f5a99" if "kernels" in name else "#999999" for name in names]
    bars = left.barh([name.replace(", ", ",\n") for name in names], values, 0.6, color=colours)
    left.bar_label(bars, fmt="%.0f", padding=3)
    left.invert_yaxis()
    left.margins(x=0.12)
    left.set_xlabel("ms a training step")
    order = np.argsort(np.array(result.numpy_ms) / np.array(result.kernel_ms))
    for y, i in enumerate(order):
        slow, quick = result.numpy_ms[i], result.kernel_ms[i]
        right.plot([quick, slow], [y, y], color="#bbbbbb", lw=2, zorder=1)
        right.plot(slow, y, "o", color="#999999")
        right.plot(quick, y, "o", color="#1f5a99")
        right.annotate(f"{slow / quick:.1f}×", (max(slow, quick), y), (8, -3),
                       textcoords="offset points", color="#333333")
    right.set_yticks(range(len(order)), [result.names[i] for i in order])
    right.set_xscale("log")
    right.margins(x=0.22)
    right.set_xlabel("ms: grey NumPy, blue kernel")
    fig.suptitle(title(result), x=0.01, ha="left", fontsize=11)
    save(fig, path)


def title(result):
    """The finding: what a step takes after each change."""
    numpy_ms, kept, spins, ours = (ms and f"{ms:.0f}" for ms in (
        result.step_numpy_ms, result.step_kept_ms, result.step_spins_ms, result.step_kernel_ms))
    if not kept:
        return f"A step takes {numpy_ms} ms on NumPy and {ours} ms on kernels"
    return (f"A step takes {numpy_ms} ms on NumPy, {kept} if freed memory is kept, "
            f"{ours} on kernels;\nwhile both pools of threads spin, the same kernels take {spins}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
