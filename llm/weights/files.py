"""Day 36 · Files that are whole or not there.

A file that is overwritten in place is broken from its first write to its last. `write_whole` never
touches the old file: it writes another one beside it and then gives that the old one's name.

    step                  guards against
    a file of its own     death while writing, a full disk: the old file is untouched
    in the same folder    a rename across file systems, which would be a copy
    fsync of the file     a power cut: the new name must not come to disk before the contents
    rename                a reader, or death, between the old file and the new one
    fsync of the folder   a power cut: the new name itself must be on disk before we go on

Left out: folders on Windows, which cannot be synced and are not; and disks that lie about fsync.
Source: POSIX.1-2017, rename(), fsync(); Pillai et al. (2014), section 2.
"""

import contextlib
import os
from pathlib import Path

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


def write_whole(path, pieces, durable=True):
    """Write the bytes-like `pieces`, so that `path` is the old file or the new one at any moment.

    durable=False leaves both fsyncs out: safe when the process dies, not when the power fails.
    Raises OSError as the system does; the old file then stays, and nothing is left beside it.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        handle = os.open(part, FLAGS, 0o666)
        try:
            for piece in pieces:
                write_all(handle, piece)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    if durable:
        sync_folder(path.parent)


def write_all(handle, piece):
    """Write all of `piece`. One call of os.write may take only a part of what it is given, on a
    disk that is nearly full for example, so the rest is offered again."""
    left = memoryview(piece).cast("B")
    while left:
        left = left[os.write(handle, left):]


def sync_folder(folder):
    """Wait until the names in this folder are on disk."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
