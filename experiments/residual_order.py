"""Day 32 · At paths of equal length post-norm ends higher than pre-norm: why?

    python experiments/residual_order.py [--fast] [--json] [--out DIR] [--only NAME]

Five controls, each a tower of 24 layers at its own best rate (chosen with one seed on the texts
and the grid of experiments/residual.py, which has the towers to compare them with; three seeds are
reported). Rows are added to the record in DIR, so that towers can be run one by one.

Warmup of 50 steps in place of 10: does post-norm only start too fast?
By width: layer l's branch is divided by the width σ_l that a pre-norm stream would have there.
Since norm(σx + f) = norm(x + f/σ), post-norm then computes at the start what pre-norm computes,
but for widths that differ between tokens; only the order is left. And "by a constant": the
division is done by a fixed factor behind the branch, so that the weights keep their size.
One thread takes about five minutes.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from days.day32.probes import learn, nats
from days.day32.run import T
from days.day32.tower import DEPTH, Tower
from days.harness import (
    ROOT,
    UsageError,
    kernels,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    say,
    write_atomically,
)
from experiments.residual import Study
from llm.layers.module import Module

HALVES = [2.0] * DEPTH
WIDTHS = [math.sqrt(1 + l / 2) for l in range(DEPTH)]      # σ_l by the law, with a gain of ½
VARIANTS = {                  # name → (kind, what branch l is divided by, a constant?, warmup)
    "post-norm ÷ 2, by a constant": ("post-norm", HALVES, True, 10),
    "post-norm ÷ width": ("post-norm", WIDTHS, False, 10),
    "post-norm ÷ width, by a constant": ("post-norm", WIDTHS, True, 10),
    "post-norm ÷ 2, long warmup": ("post-norm", HALVES, False, 50),
    "pre-norm, long warmup": ("pre-norm", None, False, 50),
}


class Divided(Module):
    """x -> inner(x) / by: the weights keep their size."""

    def __init__(self, inner, by):
        self.inner, self.by = inner, by

    def __call__(self, x):
        return self.inner(x) * (1 / self.by)


class Variants(Study):
    """The study of experiments/residual.py, for these towers."""

    def tower(self, name, seed, divide=None):
        kind, by, constant, _ = VARIANTS[name]
        model = Tower(self.V, kind, np.random.default_rng(seed))
        for i, (layer, number) in enumerate(zip(model.layers, by or [])):
            if constant:
                layer.inner = Divided(layer.inner, number)
            else:
                writer = layer.inner.down if i % 2 else layer.inner.project
                writer.w.data /= number
        return model

    def losses(self, name, rate, seed, longer=1, divide=None):
        model = self.tower(name, seed)
        with np.errstate(over="ignore", invalid="ignore"):
            chosen = learn(model, self.ids, self.choosing, T, self.steps, rate, seed,
                           lambda *_: None, warmup=VARIANTS[name][3])
        return chosen, nats(model, self.report, T, seed)


def measure(fast, names):
    study = Variants(fast)
    with kernels():
        return {name: {"path": study.path(name, None, 2 if fast else 24),
                       **study.row(name, 1, fast)} for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--json", action="store_true", help="print the record as JSON, no more")
    parser.add_argument("--only", choices=VARIANTS, metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "residual_order",
                        metavar="DIR")
    options = parser.parse_args()
    prepare(options.out)
    names = [options.only] if options.only else list(VARIANTS)[:2 if options.fast else None]
    found, path = plain(measure(options.fast, names)), options.out / "residual_order.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    rows = {**(kept["rows"] if kept.get("fast") == options.fast else {}), **found}
    record = {"rows": {name: rows[name] for name in VARIANTS if name in rows},
              "fast": options.fast, "machine": machine()}
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    if options.json:
        print(json.dumps(record))
        return
    print_table([["tower", "branches on a path", "rate", "nats of each seed"]] + [
        [name, f"{row['path']:.1f}", f"{row['rate']:g}",
         " ".join(f"{x:.3f}" for x in row["nats"])]
        for name, row in record["rows"].items()], "nats after 100 steps")
    say(f"residual_order.json is in {nearby(options.out)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("stopped; nothing half-written is left")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"residual_order: {error}")
        sys.exit(2)
