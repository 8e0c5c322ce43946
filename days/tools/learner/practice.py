"""Write a day's code yourself: a copy where that day's function bodies are gone.

Signatures, docstrings, comments between functions, dataclass fields and constants stay. The
day's own test is the grader. A copy is made once and never overwritten without --new.
"""

import ast

from days.harness import UsageError, console
from days.tools.data import course, ownership, scratch
from days.tools.learner import failure, progress

GONE = "raise NotImplementedError"


def practice(root, day, new=False):
    """Make the copy, or grade the one that is there; status 0 when it was made or all passes."""
    name = f"practice{day:02d}"
    folder = root / ".course" / name
    if new or not folder.exists():
        return begin(root, day, name)
    return resume(root, day, folder)


def begin(root, day, name):
    """Make .course/practiceNN with the bodies of the day's own llm/ files taken out."""
    owners = ownership.owners_of(root)
    mine = [p for p, owner in owners.items() if owner == day and p.startswith("llm/")
            and p.endswith(".py")]
    if not mine or course.test_file(day) not in owners:
        raise UsageError(f"day {day:02d} has nothing to practise in this tree: it needs a file "
                         f"in llm/ and {course.test_file(day)}")

    def prepare(folder):
        for path in mine:
            text = (folder / path).read_text(encoding="utf-8")
            (folder / path).write_text(blank(text), encoding="utf-8", newline="")

    folder = scratch.create(root, name, day, prepare)
    screen = console()
    screen.print(f"A copy as of day {day:02d} is in {folder.relative_to(root)}. Write the bodies "
                 f"of:", markup=False, soft_wrap=True)
    for path in mine:
        count = (folder / path).read_text(encoding="utf-8").count(GONE)
        screen.print(f"  {folder.relative_to(root)}/{path}  ({count} to write)", markup=False,
                     soft_wrap=True)
    screen.print(f"then grade them: python -m days practice {day}", markup=False)
    return 0


def resume(root, day, folder):
    """Run the day's test in the copy and tell how far it is."""
    done = scratch.pytest(folder, day, "--tb=short")
    passed, left = scratch.counts(done.stdout)
    screen = console()
    if done.returncode == 0:
        progress.record(root, day, "practice")
        screen.print(f"All {passed} tests pass: you wrote day {day:02d}. "
                     f"Compare: git diff --no-index {folder.relative_to(root)}/llm llm",
                     markup=False, soft_wrap=True)
        return 0
    found = failure.first(done.stdout, folder)
    if found is None or passed + left == 0 or done.returncode != scratch.CAUGHT:
        screen.print(f"The tests cannot start yet: {scratch.last_words(done)}", markup=False,
                     soft_wrap=True)
        told(screen, found)
        return 1
    screen.print(f"{passed} of {passed + left} tests pass. Next: {found.test}", markup=False,
                 soft_wrap=True)
    told(screen, found)
    screen.print(f"  all of it: cd {folder.relative_to(root)} && python -m pytest -x "
                 f"{course.test_file(day)}", markup=False, soft_wrap=True)
    return 1


def told(screen, found, lines=6):
    """Where the first failure ended, what the test wanted, and what came instead."""
    if found is None:
        return
    unwritten = found.said and found.said[-1].startswith("NotImplementedError")
    said = [f"to write: {found.place}"] if unwritten and found.place else [
        *([f"in {found.place}"] if found.place else []), *found.said[:lines]]
    wanted = [f"the test wants {found.wanted}"] if found.wanted else []
    for line in [*said, *wanted]:
        screen.print(f"  {line}", markup=False, soft_wrap=True)


def blank(source):
    """The source with every function and method body replaced by `raise NotImplementedError`."""
    lines = source.split("\n")         # as ast counts them; splitlines knows more line ends
    for node in sorted(bodies(ast.parse(source)), key=lambda n: -n.lineno):
        kept = 1 if ast.get_docstring(node, clean=False) is not None else 0
        if len(node.body) == kept:
            continue                                    # only a docstring: nothing to take out
        first, last = node.body[kept], node.body[-1]
        line = lines[first.lineno - 1].encode()         # col_offset counts bytes
        before = line[:first.col_offset].decode()
        lines[first.lineno - 1:last.end_lineno] = [before + GONE]
    return "\n".join(lines)


def bodies(tree):
    """The outermost functions and methods of a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif not isinstance(node, ast.expr):
            yield from bodies(node)
