"""Drills: one of the day's common mistakes, planted in a copy of the course for you to find.

Which one is drawn at random from those not found yet: the note tells all of them, in its order.
"""

import json
import random

from days.harness import UsageError, console, write_atomically
from days.tools.checks import parts
from days.tools.data import course, ownership, scratch
from days.tools.learner import failure, practice, progress


def drill(root, day, mistake=None, show=False, new=False):
    """Plant a mistake, or grade the copy that is there; status 0 when planted or found."""
    mistakes = parts.read_mistakes(root, day)
    if not mistakes or course.test_file(day) not in ownership.files(root):
        raise UsageError(f"day {day:02d} has no drills in this tree")
    if mistake is not None and not 1 <= mistake <= len(mistakes):
        raise UsageError(f"day {day:02d} has drills 1 to {len(mistakes)}, not {mistake}")
    if show:
        return reveal(mistakes, under_way(root, day, len(mistakes)), day)
    planted = None if new else under_way(root, day, len(mistakes))
    if planted is None:
        return begin(root, day, mistakes, mistake or next_one(root, day, len(mistakes)))
    if mistake not in (None, planted):
        raise UsageError(f"drill {planted} of day {day:02d} is under way; finish it, or start "
                         f"over with: python -m days drill {day} {mistake} --new")
    return resume(root, day, planted, len(mistakes))


def folder_name(day):
    """The name of the copy in .course/."""
    return f"drill{day:02d}"


def note(root, day):
    """Where the number of the planted mistake is kept, outside the copy."""
    return root / ".course" / f"{folder_name(day)}.json"


def under_way(root, day, count):
    """The number of the mistake that is planted now, or None."""
    folder = root / ".course" / folder_name(day)
    if not folder.exists() or not note(root, day).is_file():
        return None
    try:
        planted = json.loads(note(root, day).read_text(encoding="utf-8"))["mistake"]
        if type(planted) is int and 1 <= planted <= count:
            return planted
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UsageError(f"{note(root, day)} is damaged; start over with: "
                     f"python -m days drill {day} --new")


def next_one(root, day, count):
    """One of the mistakes not found yet; one of all when every one was."""
    found = progress.read(root).get(f"{day:02d}", {}).get("drills", [])
    everyone = range(1, count + 1)
    return random.choice([n for n in everyone if n not in found] or everyone)


def begin(root, day, mistakes, number):
    """Make .course/drillNN with the mistake in it and tell the symptom."""
    mistake = mistakes[number - 1]
    name = folder_name(day)
    try:
        folder = scratch.create(root, name, day, lambda copy: scratch.plant(copy, mistake))
    except ValueError as error:
        raise UsageError(f"cannot plant {error}; your own edits may be in the way") from None
    write_atomically(note(root, day), json.dumps({"mistake": number}).encode())
    screen = console()
    screen.print(f"A drill of day {day:02d}, which has {len(mistakes)}. One mistake is planted in "
                 f"{folder.relative_to(root)}/llm.", markup=False, soft_wrap=True)
    screen.print(f"Symptom: {mistake.symptom}", markup=False, soft_wrap=True)
    screen.print(f"Find and mend it there, then: python -m days drill {day}   "
                 f"(--show tells, --new starts over)", markup=False, soft_wrap=True)
    return 0


def resume(root, day, number, count):
    """Run the day's test in the copy; when it passes, the drill is done."""
    folder = root / ".course" / folder_name(day)
    done = scratch.pytest(folder, day, "-x", "--tb=short")
    screen = console()
    if done.returncode:
        said = scratch.last_words(done)
        screen.print(f"Not fixed yet: {said}", markup=False, soft_wrap=True)
        if said.startswith("ERROR"):                    # a syntax error has a line, and no test
            practice.told(screen, failure.first(done.stdout, folder))
        return 1
    progress.record_drill(root, day, number)
    scratch.remove(root, folder.name)
    note(root, day).unlink()
    found = progress.read(root)[f"{day:02d}"]["drills"]
    left = f"python -m days drill {day}" if len(found) < count else "that was the last one"
    screen.print(f"Fixed: the test of day {day:02d} passes again. Next: {left}", markup=False,
                 soft_wrap=True)
    return 0


def reveal(mistakes, number, day):
    """Tell what was planted."""
    if number is None:
        raise UsageError(f"no drill of day {day:02d} is under way; start: "
                         f"python -m days drill {day}")
    mistake = mistakes[number - 1]
    screen = console()
    for line in [mistake.title, f"in {mistake.file}", "planted:", mistake.wrong, "right:",
                 mistake.right]:
        screen.print(line, markup=False, soft_wrap=True)
    return 0
