"""The parts a day is made of: which are missing, and whether each is well formed."""

import json

from days.tools.data import course

PARTS = ["README.md", "run.py", "mistakes.py", "exercises.py", "solution.py", "result.json",
         "figure.svg"]
LONGEST = 200       # lines of a file under llm/


def faults(root, day, owners):
    """What is wrong with the parts of one day; a day without a note may lack some."""
    name = f"days/day{day:02d}"
    if course.written(root, day):
        for part in PARTS:
            if not course.part(root, day, part).is_file():
                yield f"{name}/{part}: is missing"
        if course.test_file(day) not in owners:
            yield f"{course.test_file(day)}: is missing"
    for check in (mistakes, exercises, result):
        try:
            for fault in check(root, day, owners):
                yield f"{name}/{fault}"
        except Exception as error:      # a half-written file must not end the whole check
            yield f"{name}: cannot be read: {type(error).__name__}: {error}"


def long_files(root, owners):
    """Files of llm/ that have grown past the limit."""
    for path in owners:
        if path.startswith("llm/") and path.endswith(".py"):
            lines = (root / path).read_text(encoding="utf-8", errors="replace").count("\n")
            if lines > LONGEST:
                yield f"{path}: has {lines} lines; {LONGEST} at most"


def read_mistakes(root, day):
    """The day's list of Mistakes, empty where there is none."""
    path = course.part(root, day, "mistakes.py")
    return list(course.load(path).MISTAKES) if path.is_file() else []


def mistakes(root, day, owners):
    """At least two; each `right` stands exactly once in a file that exists by that day."""
    if not course.part(root, day, "mistakes.py").is_file():
        return
    listed = read_mistakes(root, day)
    if len(listed) < 2:
        yield f"mistakes.py: has {len(listed)} mistakes; two at least are wanted"
    for mistake in listed:
        if owners.get(mistake.file, 99) > day:
            yield f"mistakes.py: '{mistake.title}' is in {mistake.file}, no file of that day"
            continue
        count = (root / mistake.file).read_text(encoding="utf-8").count(mistake.right)
        if count != 1 or mistake.right == mistake.wrong:
            yield (f"mistakes.py: '{mistake.title}': its right line stands {count} times in "
                   f"{mistake.file}, not once" if count != 1 else
                   f"mistakes.py: '{mistake.title}': right and wrong are the same")


def exercises(root, day, owners):
    """Each check has a stub and a solution."""
    if not course.part(root, day, "exercises.py").is_file():
        return
    asked = course.load(course.part(root, day, "exercises.py"))
    names = [n.removeprefix("check_") for n in vars(asked) if n.startswith("check_")]
    if not names:
        yield "exercises.py: has no check_… function, so no exercise"
    for name in names:
        if not hasattr(asked, name):
            yield f"exercises.py: check_{name} has no stub {name}"
    path = course.part(root, day, "solution.py")
    solved = course.load(path) if path.is_file() else None
    for name in names:
        if solved and not hasattr(solved, name):
            yield f"solution.py: has no {name}"


def result(root, day, owners):
    """result.json is whole, and comes from the usual run; full.json from the long one."""
    for name, full in (("result.json", False), ("full.json", True)):
        path = course.part(root, day, name)
        if not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("fast") is not False or found.get("full", False) is not full:
            kind = "--fast" if found.get("fast") else "another kind of run"
            yield f"{name}: is from {kind}; run `python -m days record {day}{' --full' * full}`"
