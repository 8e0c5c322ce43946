"""Day 39 · How fast is a training step by hand, against the tape on day 38's kernels?

Whole steps (forward, loss, backward, clipping, AdamW) in float32 on two threads, from the same
weights on the same batches; each side works in a process of its own and they take turns
(days/day38/sides.py). After 20 steps the losses must agree.

    python experiments/bench_by_hand.py [--json] [--cases 0 1 2] [--peer torch]

`gain` is the tape's time divided by the time by hand: above 1 the hand is faster.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))   # found from anywhere

from days.day38.apart import THREADS, prepare_environment  # noqa: E402
from days.day38.sides import CASES, compare  # noqa: E402
from days.day39.makers import by_hand, tape  # noqa: E402


def torch_steps(case, side):
    """PyTorch, eager or compiled."""
    from experiments.bench_training import torch_steps
    return torch_steps(case, side)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2],
                        help="which of the three shapes (all)")
    parser.add_argument("--peer", choices=["torch", "none"], default="none",
                        help="also PyTorch, eager and compiled (needs torch)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    options = parser.parse_args()
    prepare_environment()

    def say(line):
        print(line, file=sys.stderr, flush=True)

    makers = {"by hand": by_hand, "by hand, 1": by_hand, "tape, 1": tape}
    if options.peer == "torch":
        makers |= dict.fromkeys(("eager", "compiled"), torch_steps)
    results = []
    for index in options.cases:
        say(CASES[index][0])
        found = compare(CASES[index], ["ours"], say, makers)
        ms = found["milliseconds"]
        results.append({key: found[key] for key in (
            "case", "milliseconds", "sgemm_gflops", "share_of_sgemm_peak", "peak_memory_mib",
            "page_faults_a_step", "loss_difference_after_20_steps", "same_losses")}
            | {"gain": ms["ours"] / ms["by hand"], "gain_one": ms["tape, 1"] / ms["by hand, 1"]})
        if not options.json:
            for side, value in ms.items():
                print(f"  {side:12}{value:9.1f} ms "
                      f"{found['share_of_sgemm_peak'][side]:5.0%} of sgemm's "
                      f"{found['sgemm_gflops']:.0f} GFLOP/s "
                      f"{found['peak_memory_mib'][side]:7.0f} MiB")
            print(f"  gain {results[-1]['gain']:.2f}, on one thread "
                  f"{results[-1]['gain_one']:.2f}; losses differ by "
                  f"{found['loss_difference_after_20_steps']:.0e}")
    if options.json:
        from days.harness import machine
        print(json.dumps({"peer": options.peer, "machine": machine(), "threads": THREADS,
                          "cases": results}, indent=1))


if __name__ == "__main__":
    main()
