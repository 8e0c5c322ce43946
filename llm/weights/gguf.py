"""Day 52 · GGUF by hand: a header, metadata, a table of tensors, and their bytes.

The file is mapped into memory: opening reads the tables only, and a tensor's bytes are read when
they are used. Every number in the file is a claim that is checked against the file's size before
anything is allocated for it, because a file from elsewhere may be cut short, or written to harm.
Left out: version 1, big-endian files, files split into shards, and writing (day 64).
Source: ggml, docs/gguf.md, "File Structure" (version 3; version 2 has the same layout).
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from llm.weights.blocks import TYPES, BlockType, dequantise
from llm.weights.cursor import Cursor, GGUFError

MOST_ROWS = 1 << 16         # of each table; the largest models have some thousand tensors


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies. shape: as NumPy has it, the input channels last; offset: in the file."""

    name: str
    shape: tuple
    kind: BlockType
    offset: int

    @property
    def count(self):
        """How many weights."""
        return prod(self.shape)

    @property
    def size(self):
        """Bytes in the file."""
        return self.count // self.kind.weights * self.kind.bytes


class GGUF:
    """An open file: `metadata` {key: value}, `tensors` {name: Tensor}, `version`, `path`.

    Metadata values are int, float, bool, str; arrays are lists of str, lists of arrays, or
    read-only NumPy arrays. Raises GGUFError with one line.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.exists():
            raise GGUFError(f"there is no file {path}")
        if not self.path.is_file():
            raise GGUFError(f"{path} is not a file; give the path of a .gguf file")
        try:
            if self.path.stat().st_size == 0:
                raise GGUFError("it is empty")
            self.data = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))
            self.version, self.metadata, self.tensors = read(Cursor(self.data))
        except GGUFError as error:
            raise GGUFError(f"cannot read {path}: {error}") from None

    def raw(self, name):
        """The bytes of a tensor, a read-only view (rows, bytes of a row) uint8, of the file."""
        tensor = self.tensors[name]
        return self.data[tensor.offset:tensor.offset + tensor.size].reshape(
            prod(tensor.shape[:-1]), -1)

    def array(self, name):
        """A tensor as float32, in its shape."""
        tensor = self.tensors[name]
        return dequantise(self.raw(name), tensor.kind).reshape(tensor.shape)


def read(cursor):
    """All tables: version, {key: value}, {name: Tensor}."""
    if bytes(cursor.data[:4]) != b"GGUF":
        raise GGUFError(f"it starts with {bytes(cursor.data[:4])!r} and not with b'GGUF'; "
                        "is it another kind of file?")
    cursor.at = 4
    version = cursor.number("I", "the version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
        raise GGUFError(f"it is version {version}, and 2 and 3 are read here" + (
            " (it seems to be big-endian)" if swapped else "") + "; convert it anew")
    tensors, pairs = (cursor.number("Q", f"the number of {x}") for x in ("tensors", "metadata"))
    cursor.need(13 * pairs + 24 * tensors, f"a table of {pairs:,} values and {tensors:,} tensors")
    if max(pairs, tensors) > MOST_ROWS:
        raise GGUFError(f"it has {pairs:,} values and {tensors:,} tensors, more than any real "
                        "file; it is not a model's")
    metadata = {}
    for i in range(pairs):
        key = cursor.text(f"key number {i}", 0xFFFF)
        if key in metadata:
            raise GGUFError(f"the key {key[:80]!r} is there twice; the file is damaged")
        kind = cursor.number("I", f"the type of {key[:80]!r}")
        metadata[key] = cursor.value(kind, f"the value of {key[:80]!r}")
    return version, metadata, tensor_table(cursor, tensors, alignment(metadata))


def alignment(metadata):
    """The number that every tensor's place is a multiple of: 32 where the file does not say."""
    step = metadata.get("general.alignment", 32)
    if not isinstance(step, int) or step < 8 or step % 8:
        raise GGUFError(f"general.alignment is {step!r:.40}, not a multiple of 8; "
                        "the file is damaged")
    return step


def tensor_table(cursor, count, step):
    """{name: Tensor}, each inside the file, aligned, and overlapping no other."""
    found = [tensor_entry(cursor, i) for i in range(count)]
    start = -(-cursor.at // step) * step                          # where the tensors' bytes begin
    end, before, tensors = start, None, {}
    for name, shape, kind, offset in sorted(found, key=lambda entry: entry[3]):
        tensor = Tensor(name, shape, kind, start + offset)
        if name in tensors:
            raise GGUFError(f"there are two tensors {name!r}; the file is damaged")
        if offset % step:
            raise GGUFError(f"the tensor {name!r} lies at {offset:,}, not at a multiple of "
                            f"{step}; the file is damaged")
        if tensor.offset + tensor.size > len(cursor.data):
            raise GGUFError(f"the tensor {name!r}, shape {shape}, ends at byte "
                            f"{tensor.offset + tensor.size:,} of a file of {len(cursor.data):,}; "
                            "it is cut short or damaged, fetch it again")
        if tensor.offset < end:
            raise GGUFError(f"the tensors {before!r} and {name!r} overlap; the file is damaged")
        end, before, tensors[name] = tensor.offset + tensor.size, name, tensor
    return {name: tensors[name] for name, *_ in found}            # in the order of the table


def tensor_entry(cursor, i):
    """One row of the table: name, shape (outputs first), type, offset from the data's start."""
    name = cursor.text(f"the name of tensor {i}", 64)
    dims = cursor.number("I", f"the dimensions of {name!r}")
    if not 1 <= dims <= 4:
        raise GGUFError(f"the tensor {name!r} has {dims:,} dimensions, where 1 to 4 are allowed; "
                        "the file is damaged")
    shape = tuple(cursor.number("Q", f"the shape of {name!r}") for _ in range(dims))[::-1]
    number = cursor.number("I", f"the type of {name!r}")
    if number not in TYPES:
        raise GGUFError(f"the tensor {name!r} has type {number}, which is not read here "
                        f"({', '.join(kind.name for kind in TYPES.values())} are); "
                        "fetch or make the file in one of these")
    kind = TYPES[number]
    if min(shape) < 1 or shape[-1] % kind.weights:
        raise GGUFError(f"the tensor {name!r} has shape {shape}, but rows of {kind.name} are a "
                        f"positive multiple of {kind.weights}; the file is damaged")
    return name, shape, kind, cursor.number("Q", f"the place of {name!r}")
