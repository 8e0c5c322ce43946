"""Day 52 · The vocabulary of Llama 2 and its kin: pieces with scores, and bytes where none fits.

SentencePiece's BPE keeps no list of merges. Every piece has a score; of all neighbours whose
joined text is a piece, those of the highest score are joined first, the leftmost of equals. Spaces
are written ▁, and one stands before the text. A character that is no piece becomes its UTF-8 bytes,
pieces such as <0xE4>. Left out: SentencePiece's normalisation, and its Unigram models (day 26).
Sources: Kudo & Richardson 2018, section 3; llama.cpp, llama-vocab.cpp, `llm_tokenizer_spm`.
"""

import heapq
import re

import numpy as np

from llm.tokens.bpe import to_bytes

SPACE = "▁"


class ScoredBPE:
    """Encodes and decodes as day 25's FastBPE does, whose docstring explains `special`.

    pieces: list of str, by id; scores (V,); specials {text: id}; byte_ids (256,) ids of the bytes.
    prefix: whether a text, and what follows a special token, begins with a space of its own.
    Raises ValueError where there are not as many scores as pieces, or not 256 bytes.
    """

    def __init__(self, pieces, scores, specials, byte_ids, prefix=True):
        if len(scores) != len(pieces) or len(byte_ids) != 256:
            raise ValueError(f"{len(pieces):,} pieces, {len(scores):,} scores and {len(byte_ids)} "
                             "of 256 bytes do not fit together")
        self.specials, self.byte_ids, self.prefix = dict(specials), list(byte_ids), prefix
        self.vocab_size, self.scores = len(pieces), np.asarray(scores, dtype=np.float64)
        taken = {*self.specials.values(), *self.byte_ids}
        self.ids = {piece: i for i, piece in enumerate(pieces) if i not in taken}
        self.table = [piece.replace(SPACE, " ").encode() for piece in pieces]
        for byte, i in enumerate(self.byte_ids):
            self.table[i] = bytes([byte])

    def encode(self, text, special=()):
        """str -> (T,) int32; special tokens only where `special` names them, or says "all"."""
        to_bytes(text)                                          # says what is wrong with a text
        parts = self.pattern(special).split(text) if special else [text]
        ids = []
        for i, part in enumerate(parts):
            ids += [self.specials[part]] if i % 2 else self.plain(part)
        return np.array(ids, dtype=np.int32)

    def plain(self, text):
        """The ids of a text without special tokens. O(T log T)."""
        if not text:
            return []
        symbols = list(((" " if self.prefix else "") + text).replace(" ", SPACE))
        after = [*range(1, len(symbols)), -1]
        before, queue = [-1, *range(len(symbols) - 1)], []

        def offer(left):
            """Put the pair that begins at symbol `left` into the queue, if it makes a piece."""
            right = after[left] if left >= 0 else -1
            joined = symbols[left] + symbols[right] if right >= 0 else None
            if joined in self.ids:
                heapq.heappush(queue, (-self.scores[self.ids[joined]], left, right, joined))

        for left in range(len(symbols)):
            offer(left)
        while queue:
            _, left, right, joined = heapq.heappop(queue)
            if symbols[left] + symbols[right] != joined or after[left] != right:
                continue                                        # one of the two was joined since
            symbols[left], symbols[right], after[left] = joined, "", after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left])
            offer(left)
        return [i for symbol in symbols if symbol for i in self.of(symbol)]

    def of(self, symbol):
        """A piece's id, or the ids of its bytes."""
        if symbol in self.ids:
            return [self.ids[symbol]]
        return [self.byte_ids[byte] for byte in symbol.encode()]

    def decode(self, ids):
        """(T,) ids -> str, without the space of its own. ValueError for unknown ids."""
        wrong = [i for i in np.asarray(ids).tolist() if not 0 <= i < self.vocab_size]
        if wrong:
            raise ValueError(f"id {wrong[0]} is not in the vocabulary of {self.vocab_size} ids")
        text = b"".join(self.table[int(i)] for i in ids).decode("utf-8", "replace")
        return text[1:] if self.prefix and text.startswith(" ") else text

    def pattern(self, special):
        """What finds the special tokens named: leftmost, then longest. ValueError if unknown."""
        names = self.specials if special == "all" else (
            [special] if isinstance(special, str) else list(special))
        for name in names:
            if name not in self.specials:
                raise ValueError(f"unknown special token {name!r}; this vocabulary has "
                                 f"{', '.join(map(repr, self.specials)) or 'none'}")
        longest = sorted(names, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest)) or '(?!)'})")
