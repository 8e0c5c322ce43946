"""What the first notes still owe: days that were written before a rule and do not obey it yet.

A day is taken off a list once its note is mended; a new day is never put on one.
"""

from days.tools.checks import numbers
from days.tools.data import course

# Their Trade-offs do not end with a paragraph that begins "**Reflect.**".
NO_REFLECTION = set()

# Numbers in their Measure stand outside markers and are not declared as given.
UNMARKED_NUMBERS = set()


def warnings(root, days=None):
    """One line for each kind of debt that the chosen days (None: all) still have."""
    days = [day for day in (days or course.DAYS) if course.written(root, day)]
    short = [f"{day:02d}" for day in days if day in NO_REFLECTION]
    if short:
        yield f"{len(short)} older notes have no **Reflect.** yet: {' '.join(short)}"
    counts = {day: len(numbers.unmarked(note(root, day))) for day in days
              if day in UNMARKED_NUMBERS}
    if counts:
        yield (f"{len(counts)} older notes have {sum(counts.values())} numbers in Measure that no "
               f"run stands behind (verify --quick --numbers lists them): "
               f"{' '.join(f'{day:02d}' for day in counts)}")


def note(root, day):
    """The text of one day's note."""
    return course.part(root, day, "README.md").read_text(encoding="utf-8")


def listed(root, days=None):
    """Every number that needs a marker or a declaration, with the words around it."""
    for day in days or course.DAYS:
        if course.written(root, day):
            for found in numbers.unmarked(note(root, day)):
                yield (f"days/day{day:02d}/README.md:{found.line}: {found.number}   "
                       f"… {found.around} …")
