"""Day 38 · What does a training step spend its time on, in the benchmark's three shapes?

    python experiments/step_parts.py [--cases 0 1 2] [--fast] [--json] [--out DIR]

For each shape, a step on kernels is taken apart as in days/day38/run.py, in float32 and on bfloat16
products, so that the parts sum to the step. Beside it stand two controls: all the step's products
with weights, forward and backward, in NumPy alone and into arrays that exist already; once each
layer's again and again (in the cache), once in a step's order, each layer with arrays of its own.
They tell how much of a large product's speed is lost by the shapes and by the cache, before any
code of ours runs. Each in a process of its own, on two threads.

A case that is measured replaces its row in DIR/step_parts.json. About a minute on two quiet cores.
Left out: other programs at work, and what single kernels take (run.py).
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))   # found from anywhere

from days.day38.apart import apart, prepare_environment  # noqa: E402
from days.day38.run import with_rest  # noqa: E402
from days.day38.sides import CASES, sgemm_peak  # noqa: E402
from days.day38.timing import profile  # noqa: E402
from days.harness import (  # noqa: E402
    ROOT,
    UsageError,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)
from llm.kernels.half import NATIVE  # noqa: E402

TINY = ("tiny: B 2, T 16, L 1, C 32, V 65", 2, 16, 1, 2, 32, 65)
STEPS = 40, 5, 4                # of each case
PRODUCTS = "linear layers", "head"


def layers(B, T, L, H, C, V):
    """[(inputs, outputs, how many)] of all layers with weights, the head included."""
    return [(C, 3 * C, L), (C, C, L), (C, 4 * C, L), (4 * C, C, L), (C, V, 1)]


def alone(shape, repeats):
    """(GFLOP/s of a large product, milliseconds of a step's products: repeated, in order).

    Repeated: each layer's three products again and again, so that all they read is in the cache.
    In order: all layers forward and then backward, each with arrays of its own, as in a step.
    """
    rng, rows, peak = np.random.default_rng(0), shape[0] * shape[1], sgemm_peak()

    def arrays(cin, cout):
        x, w, dy = (rng.standard_normal(s, dtype=np.float32)
                    for s in ((rows, cin), (cin, cout), (rows, cout)))
        return x, w, dy, np.empty_like(dy), np.empty_like(x), np.empty_like(w)

    def forward(x, w, dy, y, dx, dw):
        np.matmul(x, w, out=y)

    def backward(x, w, dy, y, dx, dw):
        np.matmul(dy, w.T, out=dx)
        np.matmul(x.T, dy, out=dw)

    repeated = 0.0
    for cin, cout, times in layers(*shape):
        one = arrays(cin, cout)
        repeated += times * median_ms(lambda a=one: (forward(*a), backward(*a)), repeats)
    every = [arrays(cin, cout) for cin, cout, times in layers(*shape) for _ in range(times)]

    def in_order():
        for one in every:
            forward(*one)
        for one in reversed(every):
            backward(*one)

    in_order_ms = median_ms(in_order, repeats)
    return max(peak, sgemm_peak()), repeated, in_order_ms


def median_ms(work, repeats):
    """The median milliseconds of a call; the first one only warms up."""
    spent = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began))
    return statistics.median(spent[1:])


def measure(case, steps):
    """The record of one case."""
    name, *shape = case[:7]
    B, T, L, _, C, V = shape
    products, attention = 6 * B * T * (12 * L * C * C + V * C), 6 * B * T * T * C * L
    peak, repeated, in_order = apart(alone, shape, 2 * steps)
    found = {kind: with_rest(apart(profile, *shape, 0, steps, half))
             for kind, half in [("float32", False)] + [("bfloat16", True)] * NATIVE}
    record = {"case": name, "sgemm_gflops": peak, "products_gflop": products / 1e9,
              "attention_gflop": attention / 1e9, "alone_ms": [repeated, in_order],
              "alone_share": [products / 1e6 / ms / peak for ms in (repeated, in_order)],
              "parts": {}}
    for kind, parts in found.items():
        step = parts.pop("step")
        inside = sum(parts[part] for part in PRODUCTS)
        record["parts"][kind] = {
            "step_ms": step, "parts_ms": parts, "products": inside / step,
            "products_share": products / 1e6 / inside / peak,
            "share": (products + attention) / 1e6 / step / peak}
    return record


def show(record):
    for case in record["cases"]:
        kinds = case["parts"]
        print_table([["part", *(f"{kind}, ms" for kind in kinds)]] + [
            [part, *(f"{k['parts_ms'][part]:.1f}" for k in kinds.values())]
            for part in kinds["float32"]["parts_ms"]] + [
            ["the step", *(f"{k['step_ms']:.1f}" for k in kinds.values())]], case["case"])
        print(f"  of sgemm's {case['sgemm_gflops']:.0f} GFLOP/s: " + ", ".join(
            f"the step {k['share']:.0%} and its products {k['products_share']:.0%} in {kind}"
            for kind, k in kinds.items()) + "; the products alone {:.0%}, in a step's order {:.0%}"
            .format(*case["alone_share"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="one tiny shape, a few seconds")
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "step_parts", metavar="DIR")
    options = parser.parse_args()
    path = options.out / ("step_parts-fast.json" if options.fast else "step_parts.json")
    try:
        prepare(options.out)
    except (UsageError, OSError) as error:
        say(f"step_parts: {error}")
        sys.exit(2)
    prepare_environment()
    there = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else []
    cases = {case["case"]: case for case in there}
    for case, steps in [(TINY, 3)] if options.fast else [(CASES[i], STEPS[i])
                                                         for i in options.cases]:
        cases[case[0]] = measure(case, steps)
    order = [case[0] for case in (TINY, *CASES)]
    record = {"machine": machine(), "cases": sorted(cases.values(),
                                                    key=lambda c: order.index(c["case"]))}
    text = json.dumps(plain(record), indent=1, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())
    if options.json:
        print(json.dumps(plain(record), ensure_ascii=False))
        return
    show(record)
    say(f"{path.name} is in {nearby(options.out)}; {machine()}")


if __name__ == "__main__":
    main()
