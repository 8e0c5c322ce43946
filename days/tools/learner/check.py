"""Grade the exercises of a day: `check_name` of exercises.py is called with your `name`.

You answer in a copy in .course/answers/, which git ignores: a changed exercises.py would keep
`git checkout day15` from going anywhere.
"""

import linecache
import shutil
import traceback
from pathlib import Path

from days.harness import UsageError, console, say
from days.tools.data import course
from days.tools.learner import progress

PASS, OPEN, WRONG = "pass", "not yet started", "fails"


def check(root, day, solution=False):
    """Print one line an exercise; status 0 only if all of them pass."""
    path = course.part(root, day, "exercises.py")
    if not path.is_file():
        raise UsageError(f"day {day:02d} has no exercises in this tree")
    mine = path.with_name("solution.py") if solution else answers(root, day, path)
    asked = load(path)
    answer = load(mine)
    verdicts = grade(asked, answer)
    for name, verdict, why in verdicts:
        console().print(f"{verdict:<15} {name}{': ' if why else ''}{why}", markup=False,
                        soft_wrap=True)
    if not all(verdict == PASS for _, verdict, _ in verdicts):
        return 1
    if not solution:
        progress.record(root, day, "check")
    return 0


def answers(root, day, path):
    """The learner's file of a day; the first time a copy of exercises.py, edited or not."""
    mine = root / ".course" / "answers" / f"day{day:02d}.py"
    if not mine.is_file():
        mine.parent.mkdir(parents=True, exist_ok=True)
        part = mine.with_suffix(".part")
        shutil.copyfile(path, part)
        part.replace(mine)
        say(f"made {mine.relative_to(root).as_posix()} from {path.relative_to(root).as_posix()}: "
            "write your answers there")
    else:
        say(f"grading {mine.relative_to(root).as_posix()}")
    return mine


def load(path):
    """The module in a file; UsageError, with the place, where it cannot even be loaded."""
    try:
        return course.load(path)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{error_place(error, path)}{type(error).__name__}: {error}") from None


def grade(asked, answer):
    """[(name, verdict, why)] for each check_… of `asked`, applied to `answer`'s functions."""
    found = []
    for check_name, checker in list(vars(asked).items()):
        name = check_name.removeprefix("check_")
        if name == check_name or not callable(checker):
            continue
        try:
            checker(getattr(answer, name))
            found.append((name, PASS, ""))
        except NotImplementedError:
            found.append((name, OPEN, ""))
        except (Exception, SystemExit) as error:       # exit(0) must not end the grading
            found.append((name, WRONG, reason(error)))
    return found


def reason(error):
    """The message of an error in one line; for a bare assert, the line that asserts."""
    said = " ".join(str(error).split())[:300]
    if isinstance(error, AssertionError) and said:
        return said
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if not said:
        said = linecache.getline(frame.filename, frame.lineno).strip()
    return f"{type(error).__name__} in line {frame.lineno} of {Path(frame.filename).name}: {said}"


def error_place(error, path):
    """Where a file that cannot even be loaded is broken."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or path).name} line {error.lineno}: "
    return f"{path.name}: "
