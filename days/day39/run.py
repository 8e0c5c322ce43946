"""Day 39 · A training step by hand against the tape's: its parts, its threads, its memory."""

import contextlib
from dataclasses import dataclass

from days.day38.apart import apart, prepare_environment
from days.day38.sides import CASES, compare
from days.day39 import agree, makers
from days.day39.profile import GROUPS, profile
from days.harness import main, print_table, print_text, progress, save
from llm.kernels.threads import kept
from llm.models.gpt import GPTConfig
from llm.tensors.roofline import Blas

SIDES = {"tape, 1": "tape, one thread", "by hand, 1": "by hand, one thread",
         "ours": "tape, two threads", "by hand": "by hand, two workers",
         "by hand, meeting": "by hand, meeting after every function"}


@dataclass(frozen=True)
class Result:
    shape: str            # of the GPT and its batch
    groups: list          # names of the parts of a step
    tape_parts: list      # ms of each on the tape with day 38's kernels, one thread
    hand_parts: list      # … by hand
    sgemm_one: float      # GFLOP/s of a large product on one thread, in the same process
    product_gflop: float  # that the products with weights take in a step
    steps: dict           # side -> ms a step, each in a process of its own; empty with --fast
    sgemm_two: float | None
    share_two: dict       # of that: useful GFLOP/s of a step
    page_faults: dict     # a step
    functions: int        # calls of functions in forward and backward by hand
    apart: dict           # largest relative difference of gradients from the tape's, and of losses
    memory: dict          # MiB of the tape and of the arena
    placement: list       # largest first: share of shapes above the bound, the worst, how many


def measure(fast, seed):
    """Profile both on one thread, time whole steps on one and two, compare the numbers."""
    case = ("tiny", 2, 16, 1, 2, 32, 65, 1, 1) if fast else (*CASES[0][:-2], 6, 12)
    _, B, T, L, H, C, V, *_ = case
    config = GPTConfig(V=V, T=T, C=C, L=L, H=H)
    with progress(4, "by hand and on the tape") as tick:
        checked, memory = agree.all_of_it(config, B, T, seed), agree.memory(config, B, T, seed)
        tick()
        if fast:
            with threads_kept():
                parts, sgemm_one = profile(case, 3)
            found = {"milliseconds": {}, "sgemm_gflops": None, "share_of_sgemm_peak": {},
                     "page_faults_a_step": {}}
            tick(3)
        else:
            prepare_environment()
            parts, sgemm_one = apart(profile, case, 30)
            tick()
            peers = {side: makers.tape if side.startswith("tape") else makers.by_hand
                     for side in SIDES if side != "ours"}
            found = compare(case, ["ours"], lambda line: None, peers)
            tick(2)
    named = {key: {SIDES[side]: found[key][side] for side in SIDES if side in found[key]}
             for key in ("milliseconds", "share_of_sgemm_peak", "page_faults_a_step")}
    return Result(f"B {B}, T {T}, L {L}, H {H}, C {C}, V {V}", GROUPS, parts["tape"],
                  parts["by hand"], sgemm_one, 6 * B * T * (12 * L * C * C + V * C) / 1e9,
                  named["milliseconds"], found["sgemm_gflops"], named["share_of_sgemm_peak"],
                  named["page_faults_a_step"], 28 * L + 8, checked, memory,
                  agree.largest_first(20 if fast else 300, seed))


@contextlib.contextmanager
def threads_kept():
    """Whatever the block does to the threads of Numba and the BLAS is undone after it."""
    blas = Blas()
    before = blas.threads()
    with kept():
        try:
            yield
        finally:
            if before:
                blas.set_threads(before)


def table(result):
    rows = [["one thread, one step", "tape, ms", "by hand, ms", "tape, %", "by hand, %"]]
    whole = sum(result.tape_parts), sum(result.hand_parts)
    for name, a, b in zip(result.groups, result.tape_parts, result.hand_parts, strict=True):
        rows.append([name, f"{a:.2f}", f"{b:.2f}", f"{100 * a / whole[0]:.0f}",
                     f"{100 * b / whole[1]:.0f}"])
    return [*rows, ["the step", *(f"{ms:.2f}" for ms in whole), "100", "100"]]


def show(result):
    print_table(table(result), title=result.shape)
    if result.steps:
        print_table([["whole steps", "ms", "page faults"]]
                    + [[side, f"{ms:.1f}", f"{result.page_faults[side]:.1f}"]
                       for side, ms in result.steps.items()])
    m = result.memory
    print_text(f"gradients differ by at most {result.apart['learned']:.0e} of the largest (learned "
               f"positions), {result.apart['rotary']:.0e} (rotary), losses of 20 steps by "
               f"{result.apart['losses'][0]:.0e}")
    print(f"MiB: tape {m['tape']:.1f}, arena {m['activations'] + m['gradients']:.1f}; "
          f"a step by hand allocates {m['allocated_kib']:.0f} KiB")


def draw(result, path):
    """Left: the parts of a step, on one thread. Right: whole steps, with one thread and two."""
    import matplotlib.pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4), width_ratios=[1.2, 1])
    colours = ["#1f5a99", "#5b9bd0", "#9ec5e8", "#e8b45a", "#c98a2b", "#8a8a8a", "#d2d2d2"]
    for x, parts in enumerate((result.tape_parts, result.hand_parts)):
        bottom = 0
        for name, ms, colour in zip(result.groups, parts, colours, strict=True):
            left.bar(x, ms, .62, bottom=bottom, color=colour, label=None if x else name)
            bottom += ms
    left.set_xticks([0, 1], ["tape", "by hand"])
    left.set_ylabel("ms a step, one thread")
    left.set_xlim(-.5, 3.8)
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[::-1], labels[::-1], loc="center right", fontsize=8)
    if result.steps:
        names, values = zip(*result.steps.items(), strict=True)
        bars = right.barh([lines(name) for name in names], values, .62,
                          color=["#1f5a99" if "hand" in name else "#999999" for name in names])
        right.bar_label(bars, fmt="%.1f", padding=3)
        right.invert_yaxis()
        right.margins(x=.14)
    right.set_xlabel("ms a step, each in a process of its own")
    fig.suptitle(title(result), x=.01, ha="left", fontsize=10.5)
    save(fig, path)


def lines(name):
    """A label in two or three lines."""
    return name.replace(", ", ",\n").replace(" after", "\nafter")


def title(result):
    """The finding, from the numbers."""
    hand, tape = sum(result.hand_parts), sum(result.tape_parts)
    first = (f"On one thread a step takes {tape:.1f} ms on the tape and {hand:.1f} ms by hand")
    if not result.steps:
        return first
    one, two = SIDES["by hand, 1"], SIDES["by hand"]
    return (f"{first};\na second thread makes it {result.steps[one] / result.steps[two]:.2f} times "
            f"as fast by hand, {result.steps[SIDES['tape, 1']] / result.steps[SIDES['ours']]:.2f} "
            "times on the tape")


if __name__ == "__main__":
    main(__file__, measure, show, draw)
