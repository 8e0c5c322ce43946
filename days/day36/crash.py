"""Day 36 · A disk that loses its power: all states that a sequence of file operations may leave.

What is not synced may reach the disk or not, in any order. So a recording of what a program asked
of its files, cut at any place, gives a set of possible disks: each change of a name and each write
that no fsync covers is there or is missing, independently. (A write that is missing while the
file's length is known reads as zeros.) This is the weakest promise that POSIX allows; most real
file systems keep more order. Names changed and contents written are separate things: a name points
to a numbered file, and a rename moves the name alone. The method is that of Pillai et al. (2014).
"""

import contextlib
import itertools
import os
from dataclasses import dataclass

from llm.weights import files


@dataclass(frozen=True)
class Op:
    """name: "link" or "unlink" (of a path), "write" (to a file), "fsync" (of a file), "folder"
    (fsync of it), "sync" (of everything)."""

    name: str
    file: int = 0
    path: str = ""
    at: int = 0
    data: bytes = b""


class Recorder:
    """Stands in for `os` inside llm.weights.files: does the work and notes each operation."""

    def __init__(self):
        self.ops, self.files, self.handles, self.done = [], {}, {}, []

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, mode=0o777):
        handle = os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self.link(path)
            self.handles[handle] = [self.files[os.path.basename(path)], 0]
        return handle

    def link(self, path):
        name = os.path.basename(path)
        self.files[name] = number = 1 + max(self.files.values(), default=0)
        self.ops.append(Op("link", number, name))

    def write(self, handle, data):
        size = os.write(handle, data)
        number, at = self.handles[handle]
        self.ops.append(Op("write", number, at=at, data=bytes(data[:size])))
        self.handles[handle][1] += size
        return size

    def fsync(self, handle):
        os.fsync(handle)
        known = self.handles.get(handle)
        self.ops.append(Op("fsync", known[0]) if known else Op("folder"))

    def close(self, handle):
        os.close(handle)
        self.handles.pop(handle, None)

    def replace(self, old, new):
        os.replace(old, new)
        old, new = os.path.basename(old), os.path.basename(new)
        self.files[new] = self.files.pop(old)
        self.ops += [Op("link", self.files[new], new), Op("unlink", path=old)]

    def deleted(self, folder):
        """Note what was deleted by others than llm.weights.files, with Path.unlink."""
        for name in sorted(set(self.files) - set(os.listdir(folder))):
            del self.files[name]
            self.ops.append(Op("unlink", path=name))

    def settle(self):
        """Some minutes pass, and all is on the disk, whoever asked for it or not."""
        self.ops.append(Op("sync"))

    def promise(self, what):
        """From here on the program relies on `what`: its call has returned."""
        self.done.append((len(self.ops), what))


@contextlib.contextmanager
def recording():
    """`with recording() as recorder:` what write_whole does is noted."""
    recorder, before = Recorder(), files.os
    files.os = recorder
    try:
        yield recorder
    finally:
        files.os = before


def states(ops):
    """All possible disks {path: bytes} if the power fails after these operations, each once."""
    last = {op.file: i for i, op in enumerate(ops) if op.name == "fsync"}
    sync = max((i for i, op in enumerate(ops) if op.name == "sync"), default=-1)
    folder = max((i for i, op in enumerate(ops) if op.name == "folder"), default=-1)
    changes = [op for op in ops if op.name in ("link", "write", "unlink")]
    loose = [op for i, op in enumerate(ops) if op in changes and i > max(sync, (
        last.get(op.file, -1) if op.name == "write" else folder))]
    seen = set()
    for kept in itertools.product((True, False), repeat=len(loose)):
        missing = {id(op) for op, there in zip(loose, kept) if not there}
        names, contents = {}, {}
        for op in changes:
            if id(op) in missing and op.name != "write":
                continue
            if op.name == "link":
                names[op.path] = op.file
            elif op.name == "unlink":
                names.pop(op.path, None)
            else:
                old = contents.get(op.file, b"")
                new = bytes(len(op.data)) if id(op) in missing else op.data
                contents[op.file] = old[:op.at].ljust(op.at, b"\0") + new + old[
                    op.at + len(op.data):]
        disk = frozenset((path, contents.get(number, b"")) for path, number in names.items())
        if disk not in seen:
            seen.add(disk)
            yield dict(disk)


def crashes(recorder, without=()):
    """(disk, what was promised by then) for each possible disk after each operation.

    without: names of operations that are left out, "fsync" or "folder": as if the program had
    not asked for them.
    """
    for cut in range(len(recorder.ops) + 1):
        promised = [what for at, what in recorder.done if at <= cut]
        kept = [op for op in recorder.ops[:cut] if op.name not in without]
        for disk in states(kept):
            yield disk, promised
