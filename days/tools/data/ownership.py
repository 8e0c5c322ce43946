"""Which day owns which file. The frame, the same on every day, counts as day 0.

The tree as of day N is every file whose owner is N or less; tags, practice copies and the
replay of `verify` are all made from this one rule. Only the first three lines of a file are read.
"""

import fnmatch
import os
import re
import subprocess
from pathlib import PurePosixPath

from days.tools.data.course import DAYS

FRAME = 0
ROOMS = {".ci", "days", "experiments", "llm", "notes", "tests"}
FRAME_FILES = [
    ".ci/*", ".gitattributes", ".gitignore", "LICENSE", "Makefile", "README.md", "pyproject.toml",
    "requirements*.txt", "tests/test_course*.py", "tests/conftest.py",
]
IN_FOLDER = re.compile(r"days/day(\d\d)/|tests/test_day(\d\d)\.py$")
FIRST_LINE = re.compile(r'[rR]?"""Day (\d\d) · ')
COMMENT = re.compile(r"<!-- Day (\d\d) -->")


def files(root):
    """Every file of the course, sorted, as posix paths: what git tracks, and new files of days.

    What else a reader keeps here (own notes, a notebook, .DS_Store) is none of the course's.
    """
    tracked = listed(root, "-cz")
    new = walk(root) if tracked is None else listed(root, "-oz", "--exclude-standard")
    names = [*(tracked or []), *(name for name in new if ours(name, head(root)))]
    return sorted({name for name in names if name and (root / name).is_file()})


def listed(root, *flags):
    """What git lists; None where there is no git or no clone."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "ls-files", *flags], cwd=root, capture_output=True,
                              env=git_environment(), encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    return done.stdout.split("\0") if done.returncode == 0 else None


def git_environment(**variables):
    """The environment without GIT_DIR and its kin, which would point git at another repository."""
    local = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
             "GIT_NAMESPACE", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX"}
    return {**{k: v for k, v in os.environ.items() if k not in local}, **variables}


def ours(path, read):
    """Is a file that git does not track a new file of the course?"""
    if any(part.startswith(".") for part in path.split("/")) and not path.startswith(".ci/"):
        return path in FRAME_FILES
    if "/" in path and path.split("/")[0] not in ROOMS:
        return False
    return bool(path) and ("/" in path and path.endswith(".py") or bool(named(path, read)))


def walk(root):
    """All files of a downloaded archive or a scratch copy that .gitignore does not name."""
    ignore = root / ".gitignore"
    patterns = [".git"] + [line.rstrip("/") for line in
                           (ignore.read_text(encoding="utf-8").split() if ignore.exists() else [])]
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if not any(fnmatch.fnmatch(part, p) for part in relative.parts for p in patterns):
            yield relative.as_posix()


def head(root):
    """A reader of the first three lines of a file of `root`; "" where there is none."""
    def read(path):
        if not (root / path).is_file():
            return ""
        with open(root / path, encoding="utf-8", errors="replace") as file:
            return "".join(line for line, _ in zip(file, range(3)))
    return read


def claims(path, read):
    """The set of days that claim a file; exactly one is right. `read(path)` gives its head.

    A file outside the course's rooms, which a reader has committed, stays on every day.
    """
    outside = "/" not in path or path.split("/")[0] not in ROOMS
    return named(path, read) or ({FRAME} if outside else set())


def named(path, read):
    """The set of days that claim a file by its place or by its first lines."""
    room = path.split("/")[0] if "/" in path else ""
    python = path.endswith(".py")
    folder = IN_FOLDER.match(path)
    days = {int(folder[1] or folder[2])} if folder else set()
    frame = (any(fnmatch.fnmatch(path, pattern) for pattern in FRAME_FILES)
             or re.fullmatch(r"days/([^/]+\.py|tools/.+)", path)
             or room in ("llm", "tests", "experiments") and path.endswith("/__init__.py"))
    if frame:
        days.add(FRAME)
    if python:
        says = FIRST_LINE.match(read(path))
        days |= {int(says[1])} if says else set()
    elif room in ("notes", "experiments"):
        days |= {int(n) for n in COMMENT.findall(read(path))}
    if room == "experiments" and not python and not days:     # x.json belongs where x.py does
        return named(str(PurePosixPath(path).with_suffix(".py")), read)
    if room == "notes" and not days:
        days.add(FRAME)
    return days


def survey(names, read):
    """({path: owner}, faults) for these files."""
    owners, faults = {}, []
    for path in names:
        days = claims(path, read)
        if not days:
            faults.append(f'{path}: has no owner; its first line should be """Day NN · Title.')
        elif len(days) > 1:
            both = " and ".join("the frame" if d == FRAME else f"day {d:02d}"
                                for d in sorted(days))
            faults.append(f"{path}: has two owners, {both}")
        elif not days <= {FRAME, *DAYS}:
            faults.append(f"{path}: belongs to day {max(days)}, which the course does not have")
        else:
            owners[path] = days.pop()
    return owners, faults


def owners_of(root):
    """{path: owner} of the work tree, files without a clear owner left out."""
    return survey(files(root), head(root))[0]


def days_in(owners):
    """The days that own at least one file, in order."""
    return sorted(set(owners.values()) - {FRAME})
