"""Day 63 · The ledger: one line per finished run, appended whole, never changed.

A study that may be interrupted at any moment keeps no state but its results. What is to be done
next is computed from them. Each run names a stamp: the code and the machine that made it. Left
out: a file system shared by several machines, where appending is not atomic.
"""

import ast
import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from days.day63.parts import Recipe
from days.harness import ROOT, machine
from llm.tensors.roofline import Blas

DECISIVE = ("baseline", "corpus", "machine", "blas")


class Ledger:
    """The runs in a file of JSON lines. `damaged`: how many lines could not be read."""

    def __init__(self, path):
        self.path, self.runs, self.stamps, self.damaged = Path(path), {}, {}, 0
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n"):
                self.read(line)

    def read(self, line):
        """Take in one line. A torn one, of a run that was cut off, is counted and left alone."""
        if not line.strip():
            return
        try:
            entry = json.loads(line)
            if "files" in entry:
                self.stamps[entry["stamp"]] = entry
            else:
                self.runs[key(entry)] = entry
        except (ValueError, KeyError, TypeError):
            self.damaged += 1

    def append(self, entry):
        """Write one line with one call, after what other processes have written; then take it in.

        A line that was torn before gets its end first.
        """
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, b"\n" * torn + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        self.read(line)

    def stamp(self, corpus):
        """The id of this text, this code and this machine, written down if it is new here."""
        now = {"baseline": asdict(Recipe()), "corpus": corpus, "machine": machine(),
               "blas": Blas().kernel, "files": sources(), "commit": commit(),
               "system": platform.platform()}
        told = {name: now[name] for name in (*DECISIVE, "files")}
        name = digest(json.dumps(told, sort_keys=True))
        if name not in self.stamps:
            self.append({"stamp": name, **now})
        return name

    def changed(self, stamp):
        """What differs between `stamp` and the code and machine of earlier runs: a sorted list."""
        new, found = self.stamps[stamp], set()
        used = {run["stamp"] for run in self.runs.values()} - {stamp}
        for old in (self.stamps[name] for name in used if name in self.stamps):
            found |= {name for name in DECISIVE if old[name] != new[name]}
            found |= {name for name in old["files"].keys() & new["files"].keys()
                      if old["files"][name] != new["files"][name]}
        return sorted(found)


def key(entry):
    """What tells two runs apart."""
    return (entry["variant"], frozenset(entry["change"].items()), entry["rate"], entry["start"],
            entry["order"])


def sources():
    """{file: digest of its code} of every module of ours that can change a number.

    Comments and docstrings do not count: they change no number.
    """
    ours = sorted(name for name in sys.modules
                  if name.startswith("llm.") or name in ("days.day63.parts", "days.day63.trial"))
    files = (getattr(sys.modules[name], "__file__", None) for name in ours)
    return {str(Path(f).relative_to(ROOT)): code_digest(f) for f in files
            if f and not f.endswith("__init__.py")}


@functools.cache
def code_digest(path):
    """A digest of a Python file without its docstrings and comments."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and body
                and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)):
            node.body = body[1:]
    return digest(ast.dump(tree))


def digest(text):
    """Ten hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def commit():
    """The commit of the work tree, with + where files differ from it; "unknown" outside of git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=12"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
        return said.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
