"""Scratch copies of the course as of one day, and how to run Python in them.

A copy holds its own llm/ and days/; PYTHONPATH puts them before the installed ones. What a
learner changes in a copy is never overwritten: it is made once, whole or not at all.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from days.harness import UsageError
from days.tools.data import course, ownership

IMPORT = re.compile(r"^[ ]*(?:from[ ]+([\w.]+)[ ]+)?import[ ]+(\([^)]*\)|[^(\n]+)", re.MULTILINE)
CAUGHT = 1          # pytest's exit status when tests ran and some failed


def fill(root, owners, into, wanted):
    """Copy the files whose owner passes `wanted` from root into a folder, times kept."""
    for path, owner in owners.items():
        if wanted(owner):
            copy_file(root / path, into / path)


def copy_file(source, target):
    """Copy a file, and with a Python file what Numba has compiled of it, times kept.

    Numba takes compiled code for a source of the same time and size, in whichever folder it is.
    So a copy needs not compile again what the tree that it comes from has compiled.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    for file in compiled(source):
        (target.parent / "__pycache__").mkdir(exist_ok=True)
        shutil.copy2(file, target.parent / "__pycache__" / file.name)


def compiled(source):
    """The files in which Numba keeps what it has compiled of this one."""
    return list((source.parent / "__pycache__").glob(f"{source.stem}.*.nb[ic]"))


def importers(copy, file):
    """Paths of the Python files of a copy that import `file`, directly or through others; and it.

    Numba puts the code of a function that is called into the one that calls it, so these must be
    compiled again when `file` changes, and Numba does not notice.
    """
    uses = {path: imported(path.read_text("utf-8")) for folder in ("llm", "days", "experiments")
            for path in (copy / folder).rglob("*.py")}
    found, new = set(), {copy / file}
    while new:
        found |= new
        names = {".".join(path.relative_to(copy).with_suffix("").parts).removesuffix(".__init__")
                 for path in new}
        new = {path for path, used in uses.items() if used & names} - found
    return found


def forget_compiled(copy, file):
    """Throw away what Numba has made of a file and of those that import it; returns their paths."""
    if "kernels" not in file and "numba" not in (copy / file).read_text("utf-8"):
        return set()
    paths = importers(copy, file)
    for path in paths:
        for old in compiled(path):
            old.unlink(missing_ok=True)
    return paths


def restore_file(root, copy, file):
    """Put a file that was changed back, and the right compiled code of what imports it."""
    stale = forget_compiled(copy, file)
    for path in {copy / file, *stale}:
        copy_file(root / path.relative_to(copy), path)


def imported(text):
    """The names of all modules that a source may import: of `from a import b`, a and a.b.

    >>> sorted(imported("import c.d as e\\nfrom a import (\\n    b,  # note\\n    f as g)"))
    ['a', 'a.b', 'a.f', 'c.d']
    """
    found = set()
    for module, names in IMPORT.findall(text):
        names = re.findall(r"([\w.]+)(?:\s+as\s+\w+)?", re.sub(r"#.*", "", names))
        found |= {module, *(f"{module}.{name}" for name in names)} if module else set(names)
    return found


def restore(root, owners, copy, day):
    """Make a folder the tree as of that day: what differs is copied, what is more is removed.

    Compiled code stays, and what is missing of it comes along: it is made again only where its
    source has another size or time.
    """
    wanted = {path for path, owner in owners.items() if owner <= day}
    for folder, inside, names in os.walk(copy):
        inside[:] = [name for name in inside if name != "__pycache__"]
        for path in (Path(folder) / name for name in names):
            if path.relative_to(copy).as_posix() not in wanted:
                path.unlink()
    for path in wanted:
        if not (copy / path).is_file() or changed(root / path, copy / path):
            copy_file(root / path, copy / path)
    for folder in {Path(path).parent for path in wanted if path.endswith(".py")}:
        sources = {path.stem for path in (copy / folder).glob("*.py")}
        for file in (root / folder / "__pycache__").glob("*.nb[ic]"):
            target = copy / folder / "__pycache__" / file.name
            if not target.exists() and file.name.split(".")[0] in sources:
                target.parent.mkdir(exist_ok=True)
                shutil.copy2(file, target)


def changed(source, target):
    """Is the copy of a file another one, by its time or its bytes?"""
    return (source.stat().st_mtime_ns != target.stat().st_mtime_ns
            or source.read_bytes() != target.read_bytes())


def create(root, name, day, prepare):
    """Make .course/name, the tree as of that day changed by prepare(folder), in one step."""
    final = root / ".course" / name
    final.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f"{name}.", suffix=".part",
                                     ignore_cleanup_errors=True) as folder:
        part = Path(folder) / name
        part.mkdir()
        fill(root, ownership.owners_of(root), part, lambda owner: owner <= day)
        prepare(part)
        remove(root, name)
        try:
            os.replace(part, final)
        except OSError:
            raise UsageError(f"{final} was made by another command just now; try again") from None
    return final


def remove(root, name):
    """Throw one scratch copy away."""
    folder = root / ".course" / name
    if folder.exists():
        shutil.rmtree(folder)


def plant(root, mistake):
    """Put a mistake in the place of the right line in the tree at root."""
    path = root / mistake.file
    text = path.read_text(encoding="utf-8")
    if text.count(mistake.right) != 1:
        raise ValueError(f"'{mistake.title}': its right line stands {text.count(mistake.right)} "
                         f"times in {mistake.file}, not once")
    path.write_text(text.replace(mistake.right, mistake.wrong), encoding="utf-8", newline="")


def environment(root, **variables):
    """The variables under which `import llm` finds root/llm."""
    if os.pathsep in str(root):
        raise UsageError(f"Python cannot import from {root}: a '{os.pathsep}' in the name of a "
                         "folder ends an entry of its search path; move the course")
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8", **variables}


def share_cores(jobs):
    """Give each of several processes side by side its share of the cores for BLAS.

    BLAS starts a thread for each core, and threads that wait for one another spin: two processes
    on two cores then take three times the processor time. What the caller has set, stays.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(name, str(max(1, (cores or 1) // jobs)))


def python(root, *arguments, cwd=None, timeout=None, **variables):
    """Run Python on the tree at root and return the finished process with what it said."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment(root, **variables),
                          capture_output=True, timeout=timeout, encoding="utf-8",
                          errors="replace")


def attended(root, *arguments, cwd=None, whole=False):
    """Run Python before the reader's eyes and return its status.

    Ctrl-C in the terminal reaches the child as well; it may take its time to keep what was
    trained, where `subprocess.run` would kill it after a quarter of a second. A signal that was
    sent to us alone is passed on, so that no child works on without us. Where only a `whole` run
    counts, Ctrl-C goes on to the caller once the child has ended.
    """
    children, seen = [], set()

    def pass_on(number, frame):
        seen.add(number)
        if number != signal.SIGINT or not in_foreground():
            for child in children:
                child.send_signal(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
               if hasattr(signal, name)]
    before = [signal.signal(number, pass_on) for number in numbers]
    try:
        children.append(subprocess.Popen([sys.executable, *arguments], cwd=cwd,
                                         env=environment(root)))
        status = children[0].wait()
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if whole and signal.SIGINT in seen:
        raise KeyboardInterrupt
    return status


def in_foreground():
    """Does Ctrl-C in our terminal reach us, and so our child?"""
    for stream in (0, 1, 2):
        try:
            return os.tcgetpgrp(stream) == os.getpgrp()
        except OSError:                                # closed, or no terminal
            continue
        except AttributeError:                         # Windows: a console's Ctrl-C reaches all
            return True
    return False


def pytest(root, day, *flags, **options):
    """Run the day's test of the tree at root, quietly; returns the finished process."""
    return python(root, "-m", "pytest", "-p", "no:cacheprovider", *flags,
                  course.test_file(day), cwd=root, COLUMNS="200", **options)


def counts(output):
    """(passed, not passed) from pytest's last lines."""
    def number(*words):
        return sum(int(n) for n, _ in
                   re.findall(rf"(\d+) ({'|'.join(words)})\b", "\n".join(output.splitlines()[-3:])))
    return number("passed"), number("failed", "errors?")


def last_words(process):
    """What a failed process said: the lines of its errors, else its last line."""
    lines = (process.stdout + "\n" + process.stderr).strip().splitlines()
    errors = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (errors or lines or ["it said nothing"])[-1].strip()[:300]
