"""The replay: add the days to an empty tree one after another, and at each see that it holds.

At day N the tree has the frame and the files of days 1 to N, so a test that needs a later file
fails here. Each day's test and `run.py --fast` must pass, its solution must pass and its stubs
must not, and each of its mistakes, planted, must make its test fail. Jobs of one day run side by
side, each alone in a copy of its own.
"""

import queue
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from days.harness import say
from days.tools.checks import parts, trials
from days.tools.data import ownership, scratch


@dataclass
class Tally:
    """What was counted on the way."""

    days: int = 0
    mistakes: int = 0
    solutions: int = 0
    faults: list = field(default_factory=list)


def replay(root, chosen, jobs, tally):
    """Add every day in order; check the chosen ones (None: all)."""
    owners = ownership.owners_of(root)
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:
        copies = [Path(folder).resolve() / f"copy{n}" for n in range(jobs)]
        for copy in copies:
            scratch.fill(root, owners, copy, lambda owner: owner == ownership.FRAME)
            assert_wins(copy)
        for day in ownership.days_in(owners):
            for copy in copies:
                scratch.fill(root, owners, copy, lambda owner, day=day: owner == day)
            if chosen is None or day in chosen:
                replay_day(root, day, copies, tally)


def assert_wins(copy):
    """The copy's own packages must be the ones that are imported there."""
    done = scratch.python(copy, "-c", "import days, sys; print(days.__file__)", cwd=copy)
    if not done.stdout.startswith(str(copy)):
        raise OSError(f"the scratch copy imports {done.stdout.strip() or done.stderr.strip()}, "
                      "not its own files")


def replay_day(root, day, copies, tally):
    """Test, run, exercises, then mistakes, each with what it found; one line of progress."""
    started = time.perf_counter()
    before = tally.mistakes, tally.solutions, len(tally.faults)
    tests = spread([trials.test, trials.fast_run, trials.solution, trials.stubs], copies, day)
    for faults, solved in tests:
        tally.faults += faults
        tally.solutions += solved
    if not tests[0][0]:         # where the test fails by itself no mistake can be judged
        planted = [lambda copy, day, m=m: trials.mistake(root, copy, day, m)
                   for m in safe_mistakes(root, day)]
        for faults, caught in spread(planted, copies, day):
            tally.faults += faults
            tally.mistakes += caught
    tally.days += 1
    new = len(tally.faults) - before[2]
    say(f"day {day:02d}  {time.perf_counter() - started:5.1f} s  "
        f"{tally.mistakes - before[0]} mistakes caught, "
        f"{tally.solutions - before[1]} solutions passed" + (f", {new} FAULTS" if new else ""))


def safe_mistakes(root, day):
    """The day's mistakes; none where mistakes.py is broken, which the static checks tell."""
    try:
        return parts.read_mistakes(root, day)
    except Exception:
        return []


def spread(jobs, copies, day):
    """Run each job(copy, day) alone on one of the copies; the answers in order."""
    free = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(job):
        copy = free.get()
        try:
            return job(copy, day)
        except subprocess.TimeoutExpired as slow:
            return [f"day {day:02d}: did not end within {slow.timeout} s: "
                    f"{' '.join(map(str, slow.cmd[1:]))}"], 0
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(one, jobs))
