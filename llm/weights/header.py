"""Day 36 · The header of a safetensors file, read with suspicion.

The header is JSON, and a JSON library would accept much that no such file holds: the same name
twice, lists nested ten thousand deep, numbers with a million digits. This parser knows only the
one form that is allowed, and stops at the first character that does not belong there:

    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …,
     "__metadata__": {"key": "text", …}}

Then the offsets must cover the data exactly, without gaps and without overlap. Python's numbers
do not overflow, so no product of a shape can come out small by accident.
Stricter than the format's own reader: the same name twice and unknown keys are refused. Left out:
the arrays themselves (safetensors.py).
Source: safetensors, README.md, "Format"; safetensors/src/tensor.rs, `Metadata::validate`.
"""

import re
from dataclasses import dataclass
from json.decoder import scanstring
from math import prod

MOST_HEADER = 100_000_000       # bytes; the limit of the format's own reader
MOST_AXES = 64                  # of a NumPy array
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2,
         "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}                # bytes of an element
LARGEST = 2**63                 # no offset and no number of bytes reaches it
SPACE, WHOLE = re.compile(r"[ \t\n\r]*"), re.compile(r"0|[1-9][0-9]{0,19}")


class SafetensorsError(OSError):
    """The file is no safetensors file, or is damaged; one line says what is wrong."""


@dataclass(frozen=True)
class Entry:
    """One tensor: its type, its shape, and its bytes [start, end) within the data."""

    dtype: str
    shape: tuple
    start: int
    end: int


class Parser:
    """A place in the header's text that moves on only where the expected thing stands."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def fail(self, wanted):
        """Raise the error that names what should stand here."""
        found = repr(self.text[self.at:self.at + 20]) if self.at < len(self.text) else "the end"
        raise SafetensorsError(f"the header is wrong at character {self.at:,}: {wanted} should "
                               f"stand there, not {found}")

    def space(self):
        """Move over white space."""
        self.at = SPACE.match(self.text, self.at).end()

    def take(self, mark):
        """Move over one of the characters in `mark`, and say which it was."""
        self.space()
        found = self.text[self.at:self.at + 1]
        if not found or found not in mark:
            self.fail(" or ".join(mark))
        self.at += 1
        return found

    def string(self):
        """Read a JSON string that is valid Unicode."""
        self.take('"')
        try:
            found, self.at = scanstring(self.text, self.at, True)
            found.encode()                      # half of a surrogate pair is no text
        except ValueError:
            self.at -= 1
            self.fail("a JSON string")
        return found

    def whole(self):
        """Read a whole number from 0 to LARGEST − 1."""
        self.space()
        digits = WHOLE.match(self.text, self.at)
        if not digits or int(digits.group()) >= LARGEST:
            self.fail(f"a whole number below {LARGEST}")
        self.at = digits.end()
        return int(digits.group())

    def members(self):
        """Yield the keys of an object; the caller reads each value before it asks for the next."""
        self.take("{")
        self.space()
        seen = set()
        mark = self.take("}") if self.text[self.at:self.at + 1] == "}" else ","
        while mark == ",":
            key = self.string()
            if key in seen:
                raise SafetensorsError(f"the header has {brief(key)} twice: which of them is "
                                       "meant cannot be known")
            seen.add(key)
            self.take(":")
            yield key
            mark = self.take(",}")

    def numbers(self, most):
        """A list of at most so many whole numbers."""
        self.take("[")
        self.space()
        found = []
        mark = self.take("]") if self.text[self.at:self.at + 1] == "]" else ","
        while mark == ",":
            if len(found) == most:
                self.fail(f"the end of a list of at most {most} numbers")
            found.append(self.whole())
            mark = self.take(",]")
        return found

    def entry(self, name):
        """Read the object that describes one tensor -> Entry."""
        found = {}
        for key in self.members():
            if key == "dtype":
                found[key] = self.string()
            elif key in ("shape", "data_offsets"):
                found[key] = self.numbers(MOST_AXES if key == "shape" else 2)
            else:
                raise SafetensorsError(f"{brief(name)} has the unknown key {brief(key)}")
        if found.keys() != {"dtype", "shape", "data_offsets"} or len(found["data_offsets"]) != 2:
            raise SafetensorsError(f"{brief(name)} must have a dtype, a shape and two data_offsets")
        return Entry(found["dtype"], tuple(found["shape"]), *found["data_offsets"])


def brief(name):
    """A name as it stands in a message, shortened and escaped so that the message is one line."""
    return repr(name if len(name) <= 60 else name[:60] + "…")


def parse_header(header):
    """The header's bytes -> ({name: Entry}, {key: text}). Raises SafetensorsError."""
    try:
        parser = Parser(str(header, "utf-8"))
    except UnicodeDecodeError as error:
        raise SafetensorsError(f"the header is not UTF-8 text at byte {error.start:,}") from None
    if not parser.text.startswith("{"):
        parser.fail("{")
    entries, metadata = {}, {}
    for name in parser.members():
        if name == "__metadata__":
            for key in parser.members():
                metadata[key] = parser.string()
        else:
            entries[name] = parser.entry(name)
    parser.space()
    if parser.at < len(parser.text):
        parser.fail("the end")
    return entries, metadata


def check_layout(entries, size):
    """SafetensorsError unless the entries cover `size` bytes of data exactly, each its own."""
    at = 0
    for name, e in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        said = f"{brief(name)}, {e.dtype[:9]} {e.shape}, bytes {e.start:,} to {e.end:,}"
        if e.dtype not in SIZES:
            raise SafetensorsError(f"{said}: this type is not read here, only {' '.join(SIZES)}")
        if e.end < e.start:
            raise SafetensorsError(f"{said}: the end comes before the start")
        if e.end > size:
            raise SafetensorsError(f"{said}: the file has only {size:,} bytes of data; "
                                   "it is cut short or damaged")
        if prod(n for n in e.shape if n) * SIZES[e.dtype] >= LARGEST:
            raise SafetensorsError(f"{said}: no array is that large")
        wanted = prod(e.shape) * SIZES[e.dtype]
        if wanted != e.end - e.start:
            raise SafetensorsError(f"{said}: the shape needs {wanted:,} bytes")
        if e.start != at:
            raise SafetensorsError(f"{said}: it {'overlaps' if e.start < at else 'leaves a hole'}; "
                                   f"byte {at:,} comes next")
        at = e.end
    if at != size:
        raise SafetensorsError(f"{size - at:,} bytes of data belong to no tensor")
