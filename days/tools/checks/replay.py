"""The replay: add the days to an empty tree one after another, and at each see that it holds.

At day N the tree has the frame and the files of days 1 to N, so a test that needs a later file
fails here. Each day's test and `run.py --fast` must pass, its figure must be the one that its
result draws, its solution must pass and its stubs must not, and each of its mistakes, planted,
must make its test fail.

Days run side by side, as many as there are copies of the tree: each copy takes the next day from
a queue, is made the tree of that day, and does the day's jobs one after another. Before each job
it is made that tree again, so that nothing a job has written can help or harm the next one.
"""

import math
import queue
import subprocess
import tempfile
import threading
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
    left: int = 0              # mistakes that were not planted, because the time was over


def replay(root, chosen, jobs, tally, minutes=math.inf):
    """Check the chosen days (None: all), each in the tree as of that day.

    After so many minutes no further mistake is planted; all else is still done, for every day.
    """
    owners, deadline = ownership.owners_of(root), time.monotonic() + 60 * minutes
    waiting, found, stopped = queue.SimpleQueue(), {}, threading.Event()
    days = [day for day in ownership.days_in(owners) if chosen is None or day in chosen]
    for day in days:
        waiting.put(day)
    with tempfile.TemporaryDirectory(prefix="course-", ignore_cleanup_errors=True) as folder:

        def work(number):
            copy = Path(folder).resolve() / f"copy{number}"
            try:
                scratch.restore(root, owners, copy, ownership.FRAME)
                assert_wins(copy)
                while not stopped.is_set():
                    day = waiting.get_nowait()
                    found[day] = replay_day(root, owners, copy, day, stopped, deadline)
            except queue.Empty:
                pass
            except BaseException:
                stopped.set()
                raise

        with ThreadPoolExecutor(jobs) as pool:
            try:
                for done in [pool.submit(work, number) for number in range(min(jobs, len(days)))]:
                    done.result()
            except BaseException:       # Ctrl-C: no further job begins
                stopped.set()
                raise
    for day in days:
        tally.days += 1
        tally.mistakes += found[day].mistakes
        tally.solutions += found[day].solutions
        tally.faults += found[day].faults
        tally.left += found[day].left


def replay_day(root, owners, copy, day, stopped, deadline=math.inf):
    """Test, run, figure, exercises, then mistakes, each with what it found; one line for all."""
    started, tally = time.perf_counter(), Tally(days=1)

    def job(trial):
        if stopped.is_set():
            return [], 0
        scratch.restore(root, owners, copy, day)
        try:
            return trial(copy, day)
        except subprocess.TimeoutExpired as slow:
            return [f"day {day:02d}: did not end within {slow.timeout} s: "
                    f"{' '.join(map(str, slow.cmd[1:]))}"], 0

    checks = [job(trial) for trial in (trials.test, trials.fast_run, trials.figure,
                                       trials.solution, trials.stubs)]
    for faults, solved in checks:
        tally.faults += faults
        tally.solutions += solved
    if not checks[0][0]:        # where the test fails by itself no mistake can be judged
        for planted in safe_mistakes(root, day):
            if time.monotonic() > deadline:
                tally.left += 1
                continue
            faults, caught = job(lambda copy, day, m=planted: trials.mistake(copy, day, m))
            tally.faults += faults
            tally.mistakes += caught
    say(f"day {day:02d}  {time.perf_counter() - started:5.1f} s  "
        f"{tally.mistakes} mistakes caught, {tally.solutions} solutions passed"
        + (f", {len(tally.faults)} FAULTS" if tally.faults else ""))
    return tally


def assert_wins(copy):
    """The copy's own packages must be the ones that are imported there."""
    done = scratch.python(copy, "-c", "import days, sys; print(days.__file__)", cwd=copy)
    if not done.stdout.startswith(str(copy)):
        raise OSError(f"the scratch copy imports {done.stdout.strip() or done.stderr.strip()}, "
                      "not its own files")


def safe_mistakes(root, day):
    """The day's mistakes; none where mistakes.py is broken, which the static checks tell."""
    try:
        return parts.read_mistakes(root, day)
    except Exception:
        return []
