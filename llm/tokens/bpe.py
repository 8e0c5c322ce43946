"""Day 24 · Byte-pair encoding: merge the most frequent pair, again and again.

`BPE.train` learns merges from text, `encode` replays them in the order they were learned, `decode`
puts the bytes of each id together. Ids 0–255 are the bytes themselves, so no text is unknown.
Leaves out: splitting text into words first, special tokens, and speed: every round of training
counts every pair anew, O(rounds · length). Day 25 gives the same ids hundreds of times faster.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from llm.data.download import write_atomically

MOST = 1 << 28          # bytes of all pieces of a file; GPT-2's 50,257 have 320,000


class VocabularyError(OSError):
    """A vocabulary file is missing a part, damaged, or contradicts itself."""


def to_bytes(text):
    """The UTF-8 bytes of a str. Raises ValueError for anything that has none."""
    if not isinstance(text, str):
        raise ValueError(f"a tokenizer encodes str, not {type(text).__name__}; "
                         "decode bytes first, for example data.decode('utf-8')")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the lone surrogate {text[error.start]!r} at position {error.start} is "
                         "half a character and has no UTF-8 bytes; join halves, and replace "
                         "those that are alone, with text.encode('utf-16', 'surrogatepass')"
                         ".decode('utf-16', 'replace')") from None


def check_size(merges):
    """ValueError unless merges from a file are pairs of integers whose pieces fit in memory.

    A file of 45 merges can double a piece 45 times: 500 bytes that ask for 70 terabytes.
    """
    sizes, total = [1] * 256, 0
    for pair in merges:
        if [type(i) for i in pair] != [int, int] or not all(0 <= i < len(sizes) for i in pair):
            raise ValueError(f"merge number {len(sizes) - 256} is {pair!r}, not two earlier ids")
        sizes.append(sizes[pair[0]] + sizes[pair[1]])
        total += sizes[-1]
        if total > MOST:
            raise ValueError(f"its pieces have more than {MOST:,} bytes")


def count_pairs(ids):
    """How often each pair of neighbours occurs. O(T) for T ids.

    >>> dict(count_pairs([1, 2, 3, 1, 2]))
    {(1, 2): 2, (2, 3): 1, (3, 1): 1}
    """
    return Counter(pairwise(ids))


def merge(ids, pair, new):
    """Replace each occurrence of `pair` by `new`, from left to right, never overlapping. O(T).

    >>> merge([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    a, b = pair
    merged, i, last = [], 0, len(ids) - 1
    while i <= last:
        if ids[i] == a and i < last and ids[i + 1] == b:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def best_pair(counts):
    """The most frequent pair; the smallest ids where counts tie. None if no pair occurs twice.

    Its bytes are never a piece already: see the note of the day for the proof.

    >>> best_pair({(2, 9): 3, (2, 7): 3, (5, 1): 2})
    (2, 7)
    """
    pair = min(counts, key=lambda p: (-counts[p], p), default=None)
    return pair if pair is not None and counts[pair] > 1 else None


class BPE:
    """A tokenizer that is its list of merges: merge number i joins two ids into id 256 + i."""

    def __init__(self, merges=()):
        """`merges`: pairs of ids, each made of bytes and earlier merges. ValueError if not."""
        self.merges, self.pieces = [], [bytes([i]) for i in range(256)]
        for a, b in merges:
            if not (0 <= a < self.vocab_size and 0 <= b < self.vocab_size):
                raise ValueError(f"merge number {len(self.merges)} joins ({a}, {b}), but only ids "
                                 f"0 to {self.vocab_size - 1} exist before it; keep merges in "
                                 "the order they were learned")
            self.merges.append((a, b))
            self.pieces.append(self.pieces[a] + self.pieces[b])
        self.rank = {pair: i for i, pair in enumerate(self.merges)}

    @classmethod
    def train(cls, text, vocab_size):
        """Learn up to vocab_size − 256 merges; fewer where no pair occurs twice any more.

        Raises ValueError for vocab_size < 256.
        Source: Gage 1994; Sennrich, Haddow and Birch 2016, section 3.2, here over bytes.
        """
        ids = list(to_bytes(text))
        if vocab_size < 256:
            raise ValueError(f"vocab_size {vocab_size} is smaller than the base alphabet of "
                             "256 bytes; ask for 256 or more")
        merges = []
        while 256 + len(merges) < vocab_size:
            pair = best_pair(count_pairs(ids))
            if pair is None:
                break
            ids = merge(ids, pair, 256 + len(merges))
            merges.append(pair)
        return cls(merges)

    @property
    def vocab_size(self):
        """How many ids there are."""
        return len(self.pieces)

    def encode(self, text):
        """str -> (T,) int32. Of the pairs present, the one learned first is merged first."""
        ids = list(to_bytes(text))
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda p: self.rank.get(p, len(self.rank)))
            if pair not in self.rank:
                break
            ids = merge(ids, pair, 256 + self.rank[pair])
        return np.array(ids, dtype=np.int32)

    def decode(self, ids):
        """(T,) ids -> str. Bytes that are not UTF-8 become U+FFFD, the replacement character.

        Raises ValueError naming the first id that is not in the vocabulary.
        """
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"id {i} is not in the vocabulary of {self.vocab_size} ids")
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")

    def save(self, path):
        """Write the merges as JSON, atomically."""
        write_atomically(path, json.dumps({"type": "BPE", "merges": self.merges}).encode())

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. Raises VocabularyError with the reason if it cannot."""
        try:
            merges = json.loads(Path(path).read_text(encoding="utf-8"))["merges"]
            check_size(merges)
            return cls(merges)
        except OSError as error:
            raise VocabularyError(f"cannot read the vocabulary {path}: {error.strerror}. "
                                  "Save one with BPE.save first.") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise VocabularyError(f"{path} is not a vocabulary that BPE.save wrote, or it was "
                                  f"cut short: {error}") from None
