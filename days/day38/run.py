"""Day 38 · A training step before and after: its parts, on NumPy and on kernels."""

from dataclasses import dataclass

import numpy as np

from days.day38.apart import apart, prepare_environment
from days.day38.sides import CASES, compare, sgemm_peak
from days.day38.timing import in_turns, one_step, primitive_times, profile
from days.harness import main, print_table, progress, save
from llm.kernels.half import NATIVE

COLOURS = ["#c8651b", "#1f5a99", "#999999"]     # bfloat16, kernels, NumPy


@dataclass(frozen=True)
class Result:
    shape: str                    # of the GPT and its batch
    names: list                   # of the primitives, forward and backward together
    numpy_ms: list                # one call of each on the reference
    kernel_ms: list               # … and on its twin
    step_numpy_ms: float          # forward, loss, backward, clip, AdamW
    step_kept_ms: float | None    # … with freed memory kept; None with --fast, as the next
    step_alone_ms: float | None   # … on kernels, while BLAS's threads wait actively
    step_kernel_ms: float         # … while they sleep
    step_half_ms: float | None    # … on bfloat16 products; None with --fast, or without AVX512-BF16
    page_faults: list             # in one step of each
    sgemm_gflops: float
    share_numpy: float            # of that, in a step
    share_kernel: float
    parts: list                   # of a step on kernels; "the tape" is what is left of it
    parts_ms: list                # … in float32
    parts_half_ms: list           # … on bfloat16 products; empty without AVX512-BF16


def measure(fast, seed):
    """Time every primitive at one GPT's shapes, then whole steps, then the parts of a step."""
    shape = B, T, L, H, C, V = (2, 16, 1, 2, 32, 65) if fast else (12, 64, 4, 4, 128, 65)
    sides = ["numpy", "kept", "alone", "ours"] + ["bf16"] * NATIVE
    kinds = [False, True] if NATIVE else [False]
    with progress(3 + len(sides), "timing") as tick:
        if fast:
            times = primitive_times(B, T, H, C, V, seed, repeats=3)
            tick()
            numpy_ms, ours = in_turns([one_step(*shape, seed, kernels)
                                       for kernels in (False, True)], repeats=15)
            steps, faults, peak = [numpy_ms, None, None, ours, None], [], sgemm_peak()
            found = [profile(*shape, seed, 5, half) for half in kinds]
        else:                                 # each side in a process of its own, taking turns
            prepare_environment()
            times = apart(primitive_times, B, T, H, C, V, seed, 30)
            tick()
            compared = compare((*CASES[0][:-2], 3, 25), sides, lambda line: tick())
            steps = [compared["milliseconds"].get(side) for side in (*sides, "bf16")[:5]]
            faults = [compared["page_faults_a_step"][side] for side in sides]
            peak = compared["sgemm_gflops"]
            found = [apart(profile, *shape, seed, 60, half) for half in kinds]
        tick()
    work = B * T * (6 * (12 * L * C * C + V * C) + 6 * T * C * L) / 1e9
    parts = [[ms for name, ms in with_rest(one).items() if name != "step"] for one in found]
    return Result(f"B {B}, T {T}, L {L}, H {H}, C {C}, V {V}", *times, *steps, faults, peak,
                  *(work / (ms / 1000) / peak for ms in (steps[0], steps[3])),
                  [name for name in with_rest(found[0]) if name != "step"], parts[0],
                  parts[1] if NATIVE else [])


def with_rest(found):
    """The parts of a step, and what none of them took: the tape."""
    rest = 2 * found["step"] - sum(found.values())
    return found | {"the tape": rest}


def stages(result):
    """[(name of a step, ms)] in the order of the changes, each with all before it."""
    found = [("NumPy", result.step_numpy_ms), ("freed memory kept", result.step_kept_ms),
             ("kernels, BLAS spins", result.step_alone_ms),
             ("kernels, both pools sleep", result.step_kernel_ms),
             ("kernels, bfloat16 products", result.step_half_ms)]
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
    halves = result.parts_half_ms or ["—"] * len(result.parts)
    total = sum(result.parts_ms)
    print_table([["part of a step on kernels", "ms", "share", "bfloat16, ms"]]
                + [[name, f"{ms:.2f}", f"{ms / total:.0%}", half if half == "—" else f"{half:.2f}"]
                   for name, ms, half in zip(result.parts, result.parts_ms, halves, strict=True)])
    print(f"share of sgemm's {result.sgemm_gflops:.0f} GFLOP/s in a step: "
          f"{result.share_numpy:.0%} on NumPy, {result.share_kernel:.0%} on kernels")
    if result.page_faults:
        print("page faults a step: " + ", ".join(f"{n:,.0f}" for n in result.page_faults))


def draw(result, path):
    """Left: the step, change by change. Right: what a step on kernels is made of."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4), width_ratios=[1, 1.1])
    names, values = zip(*stages(result), strict=True)
    colours = [COLOURS[0 if "bf" in name else 1 if "kernels" in name else 2] for name in names]
    bars = left.barh([name.replace(", ", ",\n") for name in names], values, 0.6, color=colours)
    left.bar_label(bars, fmt="%.0f", padding=3)
    left.invert_yaxis()
    left.margins(x=0.14)
    left.set_xlabel("ms a training step")
    order = np.argsort(result.parts_ms)
    sides = [(result.parts_ms, "float32", COLOURS[1])]
    if result.parts_half_ms:
        sides.append((result.parts_half_ms, "bfloat16 products", COLOURS[0]))
    for shift, (ms, label, colour) in enumerate(sides):
        y = np.arange(len(order)) + 0.19 - 0.38 * shift
        bars = right.barh(y, [ms[i] for i in order], 0.36, color=colour, label=label)
        right.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    right.set_yticks(range(len(order)), [result.parts[i] for i in order])
    right.margins(x=0.12)
    right.legend(loc="lower right", frameon=False, fontsize=8)
    right.set_xlabel("ms of a step on kernels, by part")
    fig.suptitle(title(result), x=0.01, ha="left", fontsize=11)
    save(fig, path)


def title(result):
    """The finding: what a step takes after each change."""
    numpy_ms, kept, alone, ours = (ms and f"{ms:.0f}" for ms in (
        result.step_numpy_ms, result.step_kept_ms, result.step_alone_ms, result.step_kernel_ms))
    if not kept:
        return f"A step takes {numpy_ms} ms on NumPy and {ours} ms on kernels"
    half = f", {result.step_half_ms:.0f} with bfloat16 products" if result.step_half_ms else ""
    return (f"A step takes {numpy_ms} ms on NumPy, {kept} if freed memory is kept, "
            f"{ours} on kernels{half};\nwhile BLAS's threads spin, the same kernels take "
            f"{alone}")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
