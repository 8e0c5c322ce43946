"""Day 52 · A cursor over the bytes of a GGUF file: it moves on only where the bytes are there.

Numbers, strings and arrays as the format writes them. What a length or a count claims is held
against the bytes that are left before anything is allocated, and numbers in arrays stay views of
the file. Left out: big-endian files.
Source: ggml, docs/gguf.md, "File Structure", `gguf_metadata_value_t`.
"""

import struct

import numpy as np

NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
           10: "<u8", 11: "<i8", 12: "<f8"}         # metadata value types that are numbers
BOOL, STRING, ARRAY = 7, 8, 9
SMALLEST = {STRING: 8, ARRAY: 12} | {t: int(np.dtype(d).itemsize) for t, d in NUMBERS.items()}
MOST_STRINGS = 1 << 20      # in all arrays together; pieces and merges of Llama 4 are 0.64 million
MOST_NESTED = 1 << 12       # arrays inside arrays, all together
DEEPEST = 4                 # levels of arrays in arrays


class GGUFError(OSError):
    """The file is no GGUF file, is damaged, or holds what is not read here; one line says what."""


class Cursor:
    """A place in the file's bytes that only moves on if what is asked for is there."""

    def __init__(self, data):
        self.data, self.at, self.strings, self.nested = memoryview(data), 0, 0, 0

    def need(self, size, what):
        """GGUFError unless `size` more bytes follow."""
        left = len(self.data) - self.at
        if size > left:
            raise GGUFError(f"{what} needs {size:,} bytes at byte {self.at:,}, where only {left:,} "
                            "are left; the file is cut short or damaged, fetch it again")

    def number(self, form, what):
        """One number, written as struct's `form`."""
        size = struct.calcsize(form)
        self.need(size, what)
        value, = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return value

    def text(self, what, most=None):
        """A string: its length in bytes (u64), then UTF-8."""
        length = self.number("Q", f"the length of {what}")
        if most is not None and length > most:
            raise GGUFError(f"{what} has {length:,} bytes, where {most:,} are allowed; "
                            "the file is damaged")
        self.need(length, what)
        start, self.at = self.at, self.at + length
        try:
            return str(self.data[start:self.at], "utf-8")
        except UnicodeDecodeError:
            raise GGUFError(f"{what} at byte {start:,} is not UTF-8 text; the file is damaged"
                            ) from None

    def value(self, kind, what, depth=0):
        """A metadata value of type `kind`."""
        if kind == STRING:
            return self.text(what)
        if kind == ARRAY:
            return self.array(what, depth + 1)
        if kind not in NUMBERS:
            raise GGUFError(f"{what} has the value type {kind}, but there are 0 to 12 only; "
                            "the file is damaged or newer than this reader")
        return self.block(kind, 1, what)[0].item()

    def block(self, kind, count, what):
        """`count` numbers as a read-only view of the file."""
        dtype = np.dtype(NUMBERS[kind])
        self.need(count * dtype.itemsize, what)
        raw = np.frombuffer(self.data, np.uint8, count * dtype.itemsize, self.at)
        if kind == BOOL and count and raw.max() > 1:
            raise GGUFError(f"{what} holds a truth value that is neither 0 nor 1; "
                            "the file is damaged")
        self.at += raw.size
        return raw.view(dtype)

    def array(self, what, depth):
        """An array: type of its items (u32), their number (u64), the items."""
        kind = self.number("I", f"the type of {what}")
        count = self.number("Q", f"the number of items of {what}")
        if kind in NUMBERS:
            return self.block(kind, count, what)
        if kind not in SMALLEST:
            raise GGUFError(f"{what} is an array of type {kind}, but there are 0 to 12 only; "
                            "the file is damaged or newer than this reader")
        self.need(count * SMALLEST[kind], f"{what}, {count:,} items,")
        self.strings += count
        self.nested += count * (kind == ARRAY)
        if self.strings > MOST_STRINGS or self.nested > MOST_NESTED or depth > DEEPEST:
            raise GGUFError(f"{what} has more or deeper items than any real file: {count:,} more, "
                            f"{depth} levels deep; it is not a model's")
        return self.texts(count, what) if kind == STRING else [
            self.array(what, depth + 1) for _ in range(count)]

    def texts(self, count, what):
        """`count` strings; a vocabulary has 100,000, so this loop is kept short."""
        found, at, end, length_at = [], self.at, len(self.data), struct.Struct("<Q").unpack_from
        try:
            for _ in range(count):
                length, = length_at(self.data, at)
                if length > end - at - 8:
                    break
                found.append(str(self.data[at + 8:at + 8 + length], "utf-8"))
                at += 8 + length
        except (struct.error, UnicodeDecodeError):
            pass
        self.at = at
        if len(found) < count:
            self.text(what)                         # reads the bad one again, to say what is wrong
        return found
