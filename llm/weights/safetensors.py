"""Day 36 · safetensors: named arrays in a file that other programs read, and that runs no code.

    8 bytes   length of the header, an unsigned little-endian integer
    header    JSON: for each name its type, shape and place in the data; texts under "__metadata__"
    data      the arrays, little-endian, row after row, one behind the other

Reading maps the file into memory, so that only what is used is fetched from disk. What the header
claims is checked before anything is allocated. bfloat16 (BF16) has no NumPy type: it is read as
float32, and written by rounding float32.
Left out: 8-, 6- and 4-bit floats and complex numbers, which the format has too, and models that
are cut into several files.
Source: safetensors, README.md, "Format"; safetensors/src/tensor.rs, `prepare`.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from llm.weights.bfloat16 import from_bfloat16, to_bfloat16
from llm.weights.files import write_whole
from llm.weights.header import MOST_HEADER, SafetensorsError, check_layout, parse_header

TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2",
         "BF16": "<u2", "I32": "<i4", "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8",
         "U64": "<u8"}                                  # from small to large, as files are ordered
NAMES = {(np.dtype(t).kind, np.dtype(t).itemsize): name
         for name, t in TYPES.items() if name != "BF16"}


class SafeTensors(Mapping):
    """An open file: a mapping from names to read-only arrays, and `.metadata` {key: text}.

    Each array is a view of the file (BF16: a float32 copy). It lives as long as something refers
    to it, even if another file is renamed to this path meanwhile. A file that is *overwritten*
    changes under its views, and one that is cut short kills the process: so never write in place.
    Raises SafetensorsError if the file is missing, damaged or something else.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                start = file.read(8)
                size = file.seek(0, 2)
                if len(start) < 8:
                    raise SafetensorsError(f"only {size} bytes: no safetensors file, or cut short")
                self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            length, = struct.unpack("<Q", start)
            if length > min(MOST_HEADER, size - 8):
                raise SafetensorsError(f"a header of {length:,} bytes in a file of {size:,}, where "
                                       f"{MOST_HEADER:,} are allowed: no safetensors file, or cut "
                                       "short")
            self.entries, self.metadata = parse_header(self.memory[8:8 + length])
            self.begin = 8 + length
            check_layout(self.entries, size - self.begin)
        except SafetensorsError as error:
            raise SafetensorsError(f"{self.path}: {error}") from None
        except (OSError, ValueError) as error:
            raise SafetensorsError(f"cannot read {self.path}: "
                                   f"{getattr(error, 'strerror', None) or error}") from None

    def bits(self, name):
        """The array as it lies in the file; a BF16 as uint16. KeyError for an unknown name."""
        e = self.entries[name]
        dtype = np.dtype(TYPES[e.dtype])
        flat = np.frombuffer(self.memory, np.uint8, e.end - e.start, self.begin + e.start)
        if e.dtype == "BOOL" and flat.max(initial=0) > 1:
            raise SafetensorsError(f"{self.path}: {name!r} holds a truth value that is neither 0 "
                                   "nor 1; the file is damaged")
        array = flat.view(dtype).reshape(e.shape)
        if not array.flags.aligned:                       # no file written here, but others may
            array = array.copy()
            array.flags.writeable = False
        return array

    def __getitem__(self, name):
        bits = self.bits(name)
        return from_bfloat16(bits) if self.entries[name].dtype == "BF16" else bits

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)


def read_safetensors(path):
    """({name: array of its own}, metadata): everything, copied out of the file."""
    file = SafeTensors(path)
    return {name: np.array(file[name]) for name in file}, file.metadata


def write_safetensors(path, arrays, metadata=None, bf16=(), durable=True):
    """Write {name: array} and {key: text} to `path`, all or nothing (see `write_whole`).

    bf16: the names of float32 arrays to round to bfloat16.
    Raises ValueError for what the format cannot hold, and OSError where the disk does not take it.
    """
    write_whole(path, pieces(arrays, metadata, bf16), durable)


def pieces(arrays, metadata=None, bf16=()):
    """The bytes of the file in order: length and header, then one piece per array.

    Types with large elements come first, and the header is filled up with spaces to a multiple of
    8 bytes: so every array begins at a multiple of its element's size.
    """
    if odd := sorted(set(bf16) - arrays.keys()):
        raise ValueError(f"to be written as bfloat16, but not among the arrays: {odd[:4]}")
    found = [encoded(name, a, name in bf16) for name, a in arrays.items()]
    found.sort(key=lambda item: (-list(TYPES).index(item[1]), item[0]))
    header, at = {}, 0
    if metadata:
        if not all(isinstance(text, str) for item in metadata.items() for text in item):
            raise ValueError("metadata maps text to text: turn numbers into text, str(n)")
        header["__metadata__"] = metadata
    for name, dtype, a in found:
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_HEADER:
        raise ValueError(f"a header of {len(text):,} bytes; readers allow {MOST_HEADER:,}. Put "
                         "large metadata into an array, or use several files")
    return [struct.pack("<Q", len(text)) + text, *(a.reshape(-1).view(np.uint8) for *_, a in found)]


def encoded(name, array, bf16):
    """(name, type in the file, array as it lies there), or ValueError."""
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"an array cannot be called {name!r}: names are text, and "
                         "\"__metadata__\" is taken")
    array = np.asarray(array)
    if bf16:
        return name, "BF16", to_bfloat16(array).astype("<u2", copy=False)
    dtype = NAMES.get((array.dtype.kind, array.dtype.itemsize))
    if dtype is None:
        raise ValueError(f"{name!r} has type {array.dtype}, which the file cannot hold: "
                         f"{' '.join(TYPES)}")
    return name, dtype, np.asarray(array, TYPES[dtype], order="C")
