"""Day 38 · How fast does a GPT train while other programs use the cores, and with which threads?

    python experiments/under_load.py [--seconds 15] [--rounds 3] [--fast] [--json] [--out DIR]

Busy loops (processes that only count) run beside the training of a GPT of day 35's width, over
characters, none to four of them; in a last case they come after a third of the time and leave after
two thirds. Three ways to train, each in a process of its own, take turns of a few seconds, so that
all see the same machine: one thread in both pools, two in both, and as many as `fast()` chooses by
the clock. The kernels are compiled before the clock starts; choosing is not free and is counted.
What is asked for: at least 80 % of the better of one and two threads, and no more than a tenth
below one thread.

Nothing else should run meanwhile: the script says how much of the machine others used at the start.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

from days.harness import (
    ROOT,
    UsageError,
    figure,
    machine,
    nearby,
    plain,
    prepare,
    print_table,
    progress,
    save,
    say,
    write_atomically,
)

WAYS = {"one": "one thread", "two": "two threads", "chosen": "chosen by the clock"}
SLICE = 2.5                                            # seconds of a turn
LOADS = {"0": (0, 0, 0), "1": (1, 1, 1), "2": (2, 2, 2), "4": (4, 4, 4),     # in each third
         "0, 4, 0": (0, 4, 0)}


def train(way, seconds):
    """For each line on stdin, train for so many seconds and print tokens and seconds: a worker."""
    import numpy as np

    from days.day35 import job
    from llm.data.batches import random_windows
    from llm.grad.lowering import lower
    from llm.kernels.threads import allow, settle
    from llm.train.fast import fast, twins
    from llm.train.loop import fit
    from llm.train.schedule import Constant
    settle()
    recipe, rng = job.Recipe(T=64), np.random.default_rng(0)
    state = job.assemble(recipe, job.CharTokenizer("\n" + "".join(map(chr, range(32, 115)))), rng)
    batches = random_windows(rng.integers(0, 84, 10**6), recipe.B, recipe.T, rng)

    def loss(batch):
        return state.model.loss(*batch), batch[1].size

    def go(**limit):
        return fit(state.model.named_parameters(), loss, batches, state.optimizer,
                   Constant(1e-3), **limit)

    with lower(twins()):
        go(steps=3)                                    # compiles, or reads what was compiled
    print("ready", flush=True)
    for _ in sys.stdin:
        with fast() if way == "chosen" else lower(twins()):
            if way != "chosen":
                allow(1 if way == "one" else 2)
            run = go(seconds=seconds)
        print(run.tokens, run.seconds, flush=True)


@contextlib.contextmanager
def workers(ways, seconds):
    """{way: a process that trains when told to}; they are killed when the block ends."""
    children = {}
    try:
        for way in ways:
            n = "1" if way == "one" else "2"
            children[way] = subprocess.Popen(
                [sys.executable, __file__, "--worker", way, "--seconds", str(seconds)], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": n,
                     "NUMBA_NUM_THREADS": n})
        for way, child in children.items():
            if child.stdout.readline() != "ready\n":
                raise UsageError(f"the process that trains with {WAYS[way]} has failed")
        yield children
    finally:
        for child in children.values():
            child.kill()
            child.communicate()


@contextlib.contextmanager
def busy(n):
    """So many processes that do nothing but use a core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def under(load, ways, seconds, tick):
    """{way: tokens a second} under one load, in turns of some seconds."""
    done = {way: [0.0, 0.0] for way in ways}
    turn = min(SLICE, seconds / 3)
    with workers(ways, turn) as children:
        for n in LOADS[load]:
            with busy(n):
                for _ in range(max(1, round(seconds / 3 / turn))):
                    for way, child in children.items():
                        child.stdin.write("go\n")
                        child.stdin.flush()
                        tokens, spent = map(float, child.stdout.readline().split())
                        done[way][0] += tokens
                        done[way][1] += spent
                        tick(0, f"{load} busy, {WAYS[way]}")
    return {way: tokens / spent for way, (tokens, spent) in done.items()}


def measure(seconds, rounds, loads, ways):
    """All ways under all loads."""
    others = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    figures = {load: {way: [] for way in ways} for load in loads}
    with progress(rounds * len(loads), "training under load") as tick:
        for _ in range(rounds):
            for load in loads:
                for way, speed in under(load, ways, seconds, tick).items():
                    figures[load][way].append(speed)
                tick()
    cases = []
    for load in loads:
        speeds = {way: statistics.median(figures[load][way]) for way in ways}
        rounds_ = list(zip(*figures[load].values()))             # (one, two, chosen) of each
        cases.append({"busy": load, **{f"{way}_tokens_per_second": round(speeds[way])
                                       for way in ways},
                      "of_the_better": round(statistics.median(
                          chosen / max(one, two) for one, two, chosen in rounds_), 3),
                      "of_one_thread": round(statistics.median(
                          chosen / one for one, _, chosen in rounds_), 3),
                      "all": {way: [round(x) for x in figures[load][way]] for way in ways}})
    return {"seconds": seconds, "rounds": rounds, "load_average_before": others, "cases": cases,
            "least_of_the_better": min(c["of_the_better"] for c in cases),
            "least_of_one_thread": min(c["of_one_thread"] for c in cases), "machine": machine()}


def table(record):
    rows = [["busy loops", *WAYS.values(), "of the better", "of one thread"]]
    for case in record["cases"]:
        rows.append([case["busy"], *(f"{case[f'{way}_tokens_per_second']:,}" for way in WAYS),
                     f"{case['of_the_better']:.0%}", f"{case['of_one_thread']:.0%}"])
    return rows


def draw(record, path):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    colours = {"one": "#999999", "two": "#d9a441", "chosen": "#1f5a99"}
    for i, way in enumerate(WAYS):
        heights = [case[f"{way}_tokens_per_second"] / 1000 for case in record["cases"]]
        bars = ax.bar([j + 0.27 * (i - 1) for j in range(len(heights))], heights, 0.25,
                      color=colours[way], label=WAYS[way])
        ax.bar_label(bars, fmt="%.1f", fontsize=8)
    ax.set_xticks(range(len(record["cases"])), [case["busy"] for case in record["cases"]])
    ax.set(xlabel="busy loops beside the training (the last: in each third of the time)",
           ylabel="thousand tokens a second")
    ax.legend()
    ax.set_title(f"Threads chosen by the clock: at least {record['least_of_the_better']:.0%} of "
                 "the better of one and two")
    save(fig, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run (15)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--fast", action="store_true", help="one load, some seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no more")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "under_load", metavar="DIR",
                        help="where under_load.json and .svg go (runs/under_load)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train(options.worker, options.seconds)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)      # leave no busy loop behind
    if not 0 < options.seconds < float("inf") or options.rounds < 1:
        parser.error("--seconds must be above 0 and --rounds at least 1")
    try:
        prepare(options.out)
        record = (measure(3.0, 1, ["2"], WAYS) if options.fast
                  else measure(options.seconds, options.rounds, list(LOADS), WAYS))
    except KeyboardInterrupt:
        say("stopped; all processes that were started have ended, nothing is written")
        sys.exit(130)
    except (UsageError, OSError) as error:
        say(f"under_load: {error}")
        sys.exit(2)
    path = options.out / "under_load.json"
    write_atomically(path, (json.dumps(plain(record), indent=1) + "\n").encode())
    figure(draw, record, path.with_suffix(".svg"))
    if options.json:
        print(json.dumps(plain(record)))
        return
    print_table(table(record), f"tokens a second, median of {record['rounds']} runs of "
                               f"{record['seconds']:g} s")
    say(f"under_load.json and .svg are in {nearby(options.out)}")


if __name__ == "__main__":
    main()
