"""The trials of one day inside a scratch copy: test, run, solution, stubs, mistakes.

Each one takes (copy, day) and returns (faults, how many solutions passed or mistakes were caught).
A part that the day does not have is not tried; the static checks tell what is missing.
"""

import json

from days.tools.data import course, scratch

PATIENCE = 900      # seconds for one test or run; a hang must not hold the CI for ever


def test(copy, day):
    """The day's test passes in the tree as of that day."""
    if not (copy / course.test_file(day)).is_file():
        return [], 0
    done = scratch.pytest(copy, day, timeout=PATIENCE)
    return ([f"{course.test_file(day)}: {scratch.last_words(done)}"] if done.returncode else []), 0


def fast_run(copy, day):
    """`run.py --fast --json` prints one JSON object and leaves its two files."""
    script = course.part(copy, day, "run.py")
    if not script.is_file():
        return [], 0
    out = copy / "runs" / f"day{day:02d}"
    done = scratch.python(copy, str(script), "--fast", "--json", "--out", str(out), cwd=copy,
                          timeout=PATIENCE)
    where = f"days/day{day:02d}/run.py --fast --json"
    if done.returncode:
        return [f"{where}: status {done.returncode}: {scratch.last_words(done)}"], 0
    try:
        whole = isinstance(json.loads(done.stdout), dict)
    except ValueError:
        whole = False
    missing = [name for name in ("result.json", "figure.svg") if not (out / name).is_file()]
    return ([] if whole else [f"{where}: does not print one JSON object and nothing else"]) + [
        f"{where}: wrote no {name}" for name in missing], 0


def figure(copy, day):
    """The committed figures are what the committed results draw."""
    if not course.part(copy, day, "figure.svg").is_file():
        return [], 0
    done = scratch.python(copy, "-m", "days.tools.checks.figures", str(day), cwd=copy,
                          timeout=PATIENCE)
    if done.returncode:
        return [f"days/day{day:02d}/figure.svg: cannot be drawn from result.json: "
                f"{scratch.last_words(done)}"], 0
    return [line for line in done.stdout.splitlines() if line], 0


def graded(copy, day, *flags):
    """The verdict lines of `check`, and its status."""
    done = scratch.python(copy, "-m", "days", "check", str(day), *flags, cwd=copy,
                          timeout=PATIENCE)
    return done.returncode, [line for line in done.stdout.splitlines() if line.strip()] or [
        scratch.last_words(done)]


def solution(copy, day):
    """Every solution passes its check."""
    if not course.part(copy, day, "solution.py").is_file():
        return [], 0
    status, lines = graded(copy, day, "--solution")
    wrong = [line for line in lines if not line.startswith("pass ")]
    return [f"days/day{day:02d}/solution.py: {line}" for line in wrong], len(lines) - len(wrong)


def stubs(copy, day):
    """No stub passes its check: an exercise that is done before it begins teaches nothing."""
    if not course.part(copy, day, "exercises.py").is_file():
        return [], 0
    status, lines = graded(copy, day)
    return [f"days/day{day:02d}/exercises.py: {' '.join(line.split())}; a stub must say "
            "raise NotImplementedError" for line in lines
            if not line.startswith("not yet started ")], 0


def mistake(copy, day, planted):
    """With the mistake in place the day's test fails.

    Compiled code must not outlive the mistake: bytecode is not written, and what Numba has made
    of the file and of those that import it is thrown away before and after.
    """
    path = copy / planted.file
    if not path.is_file() or not (copy / course.test_file(day)).is_file():
        return [], 0
    try:
        scratch.plant(copy, planted)
    except ValueError:
        return [], 0            # the static checks have told that it cannot be planted
    try:
        scratch.forget_compiled(copy, planted.file)
        done = scratch.pytest(copy, day, "-x", timeout=PATIENCE, PYTHONDONTWRITEBYTECODE="1")
    finally:
        scratch.forget_compiled(copy, planted.file)
    if done.returncode == scratch.CAUGHT:
        return [], 1
    how = "passes" if done.returncode == 0 else f"ends with status {done.returncode}, not 1"
    return [f"days/day{day:02d}/mistakes.py: with '{planted.title}' planted the test {how}"], 0
