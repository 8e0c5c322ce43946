"""Day 35 · Snapshots: everything a stopped run needs to go on, in one file.

A NumPy .npz archive written beside the old one and then put in its place, so that a crash leaves
either the old snapshot or the new one. Left out: the format that other programs read, and proof
that a resumed run equals an uninterrupted one bit for bit (day 36).
"""

import json
import math
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np


class SnapshotError(OSError):
    """A snapshot cannot be read or written; the message says why and what to do."""


def save_snapshot(path, model, optimizer, rng, about):
    """Write weights, moments, the state of `rng` and `about` (plain JSON values) to `path`.

    Raises SnapshotError where it cannot be written; an older snapshot then stays as it was.
    Raises ValueError where `about` holds what JSON would give back as something else.
    """
    path = Path(path)
    check_plain(about, "about")
    arrays = {f"model.{name}": a for name, a in model.state_dict().items()}
    arrays |= {f"optimizer.{name}": a for name, a in optimizer.state_dict().items()}
    about = json.dumps({**about, "rng": rng.bit_generator.state}, default=np.ndarray.tolist,
                       ensure_ascii=False)          # escaped, two surrogates would become one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, about=np.array(about), **arrays)
                file.flush()
                os.fsync(file.fileno())           # on the disk before it takes the old one's place
            os.chmod(part, 0o644)                 # mkstemp makes files that only we may read
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SnapshotError(f"cannot save to {path}: {error.strerror or error}. "
                            "Free some space or choose another folder.") from None


def check_plain(value, where):
    """ValueError unless `value` comes back from JSON as it is; a tuple may come back as a list."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, part in value.items():
            check_plain(part, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            check_plain(part, f"{where}[{i}]")
    elif value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"{where} is {value!r:.80}: a snapshot keeps None, numbers, text, lists, "
                         "and dicts whose keys are text")


def load_snapshot(path):
    """Return (about, model state, optimizer state, rng state) of a snapshot.

    Raises SnapshotError if the file is missing, damaged or something else.
    """
    try:
        file = open(path, "rb")                # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise SnapshotError(f"no snapshot at {path}: train one first, without --resume or "
                            "--prompt") from None
    except OSError as error:
        raise SnapshotError(f"cannot read {path}: {error.strerror}") from None
    try:
        with file:
            check_members(file)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop("about")))
        rng_state = about.pop("rng")
    except Exception:      # a flipped bit can make zipfile, NumPy and json raise almost anything
        raise SnapshotError(f"{path} is damaged or no snapshot: delete it and train "
                            "again") from None
    return about, part(arrays, "model."), part(arrays, "optimizer."), rng_state


def check_members(file):
    """ValueError where the archive's arrays could not come from a file of this size.

    `np.savez` does not compress. So an array that claims more bytes than the file has was not
    written here, and no memory is given to it: two megabytes of a compressed archive can ask for
    two gigabytes.
    """
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as start:
                first = np.lib.format.read_magic(start) == (1, 0)
                shape, _, dtype = (np.lib.format.read_array_header_1_0 if first else
                                   np.lib.format.read_array_header_2_0)(start)
            if member.compress_type != zipfile.ZIP_STORED or (
                    dtype.itemsize * math.prod(shape) > member.file_size):
                raise ValueError("not written by save_snapshot")
    file.seek(0)


def part(arrays, prefix):
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
