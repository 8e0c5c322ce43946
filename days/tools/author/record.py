"""Run a day, keep what it measured, and tell which numbers in the prose moved.

The run writes into a folder of its own; only a whole run from beginning to end takes the place
of the files in days/dayNN. Tools can write a new number into a sentence, but not see whether the
sentence is still true; so each sentence with a number that moved is shown, to be read again.
"""

import inspect
import json
import os
import tempfile
from pathlib import Path

from days import harness
from days.harness import UsageError, console, say, write_atomically
from days.tools.author import moved, write
from days.tools.data import course, generated, scratch

THREADS = ("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def record(root, days, full=False):
    """Record these days one after another; the first one that fails ends the work."""
    for day in days:
        can_run(root, day, full)
    for name in [name for name in THREADS if name in os.environ]:
        say(f"{name}={os.environ[name]} is set; what is timed is timed with that")
    if busy():
        say(f"the machine is busy (load {busy():.1f}): times can be wrong by factors. Record on a "
            "quiet one, and look at every timed number before you keep it")
    return next((status for day in days if (status := record_one(root, day, full))), 0)


def busy():
    """The load of the last minute if it is more than the cores can carry, else 0."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0
    return load if load > (os.cpu_count() or 1) else 0


def can_run(root, day, full):
    """UsageError where there is nothing to record; told before the first day runs."""
    path = course.part(root, day, "run.py")
    if not path.is_file():
        raise UsageError(f"day {day:02d} has no run.py to record")
    if full and "full" not in inspect.signature(course.load(path).measure).parameters:
        raise UsageError(f"day {day:02d} has no long run: its measure takes no `full`")


def record_one(root, day, full):
    """Run the day; then its result, figure and note; the run's status, or 1 on a fault."""
    script = course.part(root, day, "run.py")
    with tempfile.TemporaryDirectory(prefix="record-", ignore_cleanup_errors=True) as folder:
        status = scratch.attended(root, str(script), "--out", folder, *["--full"] * full,
                                  cwd=root, whole=True)
        if status:
            say(f"day {day:02d}: the run ended with status {status}; nothing is changed")
            return status
        files = {name: (Path(folder) / name).read_bytes() for name in harness.names(full)}
    result = json.loads(files[harness.names(full)[0]])
    if result["fast"] or result.get("interrupted") or result.get("full", False) != full:
        raise UsageError(f"day {day:02d}: that was not a whole {'long ' * full}run; "
                         "nothing is changed")
    for name, data in files.items():
        write_atomically(course.part(root, day, name), data)
    say(f"day {day:02d}: recorded {' and '.join(files)} in days/day{day:02d}")
    return refresh(root, day) | write.write(root, [])


def refresh(root, day):
    """Write the note anew and show the sentences whose numbers moved; 1 where it cannot be."""
    path = course.part(root, day, "README.md")
    if not path.is_file():
        return 0
    old = path.read_text(encoding="utf-8")
    try:
        new = generated.fresh(root, day, old)
    except Exception as error:      # the result is kept; the note needs its author
        say(f"days/day{day:02d}/README.md cannot be written: {type(error).__name__}: {error}")
        return 1
    write.replace(path, lambda _: new)
    screen = console()
    for line in moved.report(old, new, f"days/day{day:02d}/README.md"):
        screen.print(line, markup=False, soft_wrap=True)
    return 0
