"""Refresh what the machine writes: the values of the notes, README.md, the pages of notes/."""

from days.harness import UsageError, say, write_atomically
from days.tools.author import common, promise
from days.tools.data import course, generated, pages


def write(root, days):
    """Write the notes of these days (None: all) and every other page; status 1 on a fault."""
    faults = 0
    for day in days if days is not None else [n for n in course.DAYS if course.written(root, n)]:
        if not course.written(root, day):
            raise UsageError(f"day {day:02d} has no note to write into")
        for path in course.notes(root, day):
            try:
                replace(path, lambda text, day=day: generated.fresh(root, day, text))
            except Exception as error:  # one half-written day must not keep the others waiting
                say(f"days/day{day:02d}/{path.name}: {type(error).__name__}: {error}")
                faults += 1
    changes = [(root / "README.md", generated.readme), *((path, pages.fresh)
                                                         for path in pages.each(root)),
               *((path, common.fresh) for path in common.pages(root))]
    for path, fresh in changes:
        if not path.is_file():
            continue
        try:
            replace(path, lambda text, fresh=fresh: fresh(text, root))
        except Exception as error:
            say(f"{path.relative_to(root).as_posix()}: {type(error).__name__}: {error}")
            faults += 1
    if any(promise.faults(root)):
        try:
            replace(root / promise.NAME, lambda _: promise.drawn(root))
        except Exception as error:
            say(f"{promise.NAME}: {type(error).__name__}: {error}")
            faults += 1
    return 1 if faults else 0


def replace(path, change):
    """Write change(text) over the file if that is not what it holds."""
    text = path.read_text(encoding="utf-8")
    fresh = change(text)
    if fresh != text:
        write_atomically(path, fresh.encode())
        places = path.parts[-4:]        # as a reader would type it, from the first room on
        rooms = [i for i, part in enumerate(places[:-1]) if part in ("days", "notes")]
        say(f"wrote {'/'.join(places[rooms[-1]:] if rooms else places[-1:])}")
