"""Day 63 · Which parts of a small GPT matter? One difference at a time, over seeds, corrected.

    python experiments/ablations.py [--fast] [--json] [--out DIR] [--workers 2] [--minutes 30]

Every variant is the baseline and one difference (days/day63/variants.py). In order:

1. screening: one seed on a grid of rates, 1.5 apart, that grows until the best on the first half
   of the held-out text stands between two others;
2. choice, where the plan has more seeds for it: the best rate and its neighbours with all of them;
3. report: fresh seeds at that rate, scored on the second half, seed by seed;
4. starts × orders: the baseline with every pair of five starts and five orders of the text;
5. larger: the baseline and the two largest effects again, with four times the parameters.

What is to be done next is computed from the runs in DIR/ablations.jsonl, so a study may be stopped
at any time and goes on with the next call. Where code or machine have changed, one run of each
variant is repeated first, and has to agree to the bit.
"""

import json
import math
import time

from days.day63.ledger import Ledger, digest
from days.day63.plan import PLAN, Plan
from days.harness import UsageError, plain, progress, say, write_atomically
from experiments import ablations_choice as choice
from experiments import ablations_report as report
from experiments.ablations_pool import compile_first, pool
from experiments.study import command_line
from llm.data.text import load_or_default


def study(plan, path, **flags):
    """`measure`, once a process of its own has compiled all kernels."""
    compile_first([plan.task(name, 0.01, 0, 0) for name in plan.variants()])
    return measure(plan, path, **flags)


def measure(plan, path, workers=1, minutes=math.inf, **flags):
    """Make the runs that the ledger beside `path` does not hold yet; returns the record.

    minutes: begin no run after so many. Writes the record and its report after the last run.
    """
    if workers < 1 or not minutes > 0:
        raise UsageError(f"--workers {workers} and --minutes {minutes} must be above 0")
    corpus = load_or_default("shakespeare", say)
    ledger = Ledger(path.with_suffix(".jsonl"))
    stamp = ledger.stamp(f"{corpus.name} {digest(corpus.text)}")
    end = time.monotonic() + 60 * minutes
    try:
        with pool(workers) as map_runs, progress(choice.expected(plan), "of about") as tick:
            if changed := ledger.changed(stamp):
                repeat(ledger, changed, map_runs)
            tick(len(ledger.runs))
            while (tasks := choice.missing(plan, ledger)) and time.monotonic() < end:
                for task, found in map_runs(tasks, end):
                    ledger.append({**task, **found, "stamp": stamp})
                    tick(1, f"{task['variant']}, {task['rate']:.2g}: {found['choose']:.3f}")
    except KeyboardInterrupt:
        write(plan, ledger, path)
        raise
    return write(plan, ledger, path)


def write(plan, ledger, path):
    """The record and its report, from whatever the ledger holds."""
    record = plain(report.analyse(plan, ledger, finished=not choice.missing(plan, ledger)))
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(path.with_suffix(".md"), report.markdown(record).encode())
    return record


def repeat(ledger, changed, map_runs):
    """One run of each variant again: the same bits, or UsageError."""
    say(f"changed since earlier runs: {', '.join(changed[:5])}; repeating one run of each variant")
    firsts = {}
    for entry in ledger.runs.values():
        firsts.setdefault(entry["variant"], entry)
    for task, found in map_runs(list(firsts.values())):
        if any(found[part] != task[part] for part in ("choose", "report")):
            raise UsageError(f"{task['variant']} gave {task['report']!r} before and gives "
                             f"{found['report']!r} now ({', '.join(changed[:5])} changed): runs "
                             "of both cannot be compared. Choose another --out")


def add_arguments(parser):
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="processes, of one thread each (1)")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M",
                        help="begin no run after so long; the next call goes on (no limit)")


def main():
    command_line("ablations", __doc__, PLAN, Plan.small(), study,
                 report.show, report.draw, add_arguments)


if __name__ == "__main__":
    main()
