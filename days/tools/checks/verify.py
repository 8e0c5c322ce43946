"""`python -m days verify`: the static checks, then the replay of the course, day after day."""

import math
import time

from days.harness import console, say
from days.tools.checks import replay, static
from days.tools.checks.numbers import listed
from days.tools.data import scratch


def verify(root, quick=False, days=None, jobs=2, numbers=False, minutes=math.inf):
    """Check everything, tell every fault; status 1 if there is one.

    minutes: after so many of the replay no further mistake is planted, and the last line says so.
    """
    started = time.perf_counter()
    faults = static.faults(root, days)
    made = static.pages(root) if days is None else []       # they speak of all days
    if not quick:
        faults += made
    say(f"static checks: {time.perf_counter() - started:.1f} s, {len(faults)} faults")
    tally = replay.Tally()
    if not quick:
        scratch.share_cores(jobs)
        replay.replay(root, days, jobs, tally, minutes)
        faults += tally.faults
    screen = console()
    if numbers:
        for line in listed(root, days):
            screen.print(line, markup=False, soft_wrap=True)
    for line in made if quick else []:
        screen.print(f"  warning: {line}", markup=False, soft_wrap=True)
    for fault in faults:
        screen.print(f"  {fault}", markup=False, soft_wrap=True)
    done = "static checks" if quick else (
        f"{tally.days} days, {tally.mistakes} mistakes caught, {tally.solutions} solutions passed"
        + (f", {tally.left} mistakes left out, the time was over" if tally.left else ""))
    screen.print(f"verify: {done}, {len(faults)} faults", markup=False)
    return 1 if faults else 0
