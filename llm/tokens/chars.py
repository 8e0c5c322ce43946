"""Day 01 · Characters as tokens.

One character, one id: the ids count the sorted distinct characters of a text. Left out: words,
pieces of words, bytes and special tokens; a character that was not in the text is an error.
"""

import json
from pathlib import Path

import numpy as np

from llm.data.download import TextError, write_atomically

KIND = "llm character tokenizer"


class CharTokenizer:
    """The characters of a text, numbered in sorted order: id 0 is the smallest code point.

    >>> tokenizer = CharTokenizer.from_text("hello")
    >>> tokenizer.characters
    'ehlo'
    >>> tokenizer.encode("hello").tolist()
    [1, 0, 2, 2, 3]
    >>> tokenizer.decode([1, 0, 2, 2, 3])
    'hello'
    """

    def __init__(self, characters):
        """`characters` is a str; their order and repetitions do not matter."""
        self.characters = "".join(sorted(set(characters)))
        self._codes = code_points(self.characters)                  # (V,) id -> code point
        size = int(self._codes.max()) + 2 if characters else 1
        self._ids = np.full(size, -1, np.int32)                     # code point -> id or -1
        self._ids[self._codes] = np.arange(len(self._codes), dtype=np.int32)

    @classmethod
    def from_text(cls, text):
        """Build the vocabulary of a text: the same text gives the same ids on every machine."""
        return cls(text)

    @property
    def vocab_size(self):
        """V, the number of distinct characters."""
        return len(self.characters)

    def encode(self, text):
        """Text to ids, int32 (T,). Raises ValueError naming an unknown character and its place."""
        codes = code_points(text)                                   # (T,)
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]      # the last entry is always -1
        if len(ids) and ids.min() < 0:
            at = int(np.argmax(ids < 0))
            raise ValueError(
                f"unknown character {text[at]!r} (U+{ord(text[at]):04X}) at position {at}: it is "
                f"not among the {self.vocab_size} this tokenizer was built from. Build it from a "
                "text that has the character, or take the character out.")
        return ids

    def decode(self, ids):
        """Ids, integers (T,), to text. Raises ValueError for an id that is not in 0 … V − 1."""
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"ids must be integers of shape (T,), "
                             f"not {ids.dtype} of shape {ids.shape}")
        wrong = (ids < 0) | (ids >= self.vocab_size)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(f"id {ids[at]} at position {at} is outside the vocabulary "
                             f"of {self.vocab_size}: ids run from 0 to {self.vocab_size - 1}")
        if not ids.size:
            return ""
        return self._codes[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def save(self, path):
        """Write the vocabulary as JSON, atomically.

        The characters are written from the last to the first. In sorted order a high surrogate
        could stand just before a low one, and JSON would read the two as one character.
        """
        text = json.dumps({"kind": KIND, "characters": self.characters[::-1]})
        write_atomically(path, text.encode("ascii") + b"\n")

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. Raises TextError for a missing or damaged file."""
        try:
            saved = json.loads(Path(path).read_bytes())
            characters = saved["characters"]
            tokenizer = cls(characters)
            if saved["kind"] != KIND or tokenizer.characters not in (characters[::-1], characters):
                raise ValueError("wrong kind, or characters that are not sorted and distinct")
            return tokenizer
        except OSError as error:
            raise TextError(f"cannot read the tokenizer {path}: {error.strerror}. "
                            "Save one with CharTokenizer.save first.") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TextError(f"{path} is not a saved character tokenizer ({error}). "
                            "Save it again with CharTokenizer.save.") from None


def code_points(text):
    """The Unicode code points of a text, uint32 (T,): "A" is 65, "é" 233."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
