"""Day 26 · A Unigram tokenizer: pieces with probabilities, and the most probable way to cut a text.

`Unigram.train` learns pieces by EM and pruning; `load` reads Hugging Face's `tokenizer.json`;
`encode` gives its ids, `sample` a random segmentation. A space is written ▁ (U+2581) in pieces, so
that joining them gives the text back.
Leaves out: telling a ▁ in the text from a space.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from llm.data.download import write_atomically
from llm.tokens.bpe import VocabularyError
from llm.tokens.cut.rules import check_rule, inner, spaced
from llm.tokens.cut.segmenter import META, Segmenter
from llm.tokens.engine.specials import Marked, without
from llm.tokens.engine.trie import trie_of
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.added import normalizer as normalizer_of
from llm.tokens.files.bpe import read
from llm.tokens.files.steps import STEPS
from llm.tokens.files.unigram import from_json, to_json
from llm.tokens.learn.unigram import learn_pieces

UNKNOWN = "<unk>"
PENALTY = 10.0           # nats that an unknown character costs more than the rarest piece
BYTES = [f"<0x{b:02X}>" for b in range(256)]               # the pieces of byte fallback
TASK = 1 << 18           # characters that one thread takes at a time
MOST_SCORE = 1e100       # so that no sum of scores overflows


class Unigram(Marked):
    """Pieces by id with their log probabilities, a splitting rule and special tokens."""

    def __init__(self, pieces, unk_id=0, byte_fallback=False, rule="spaces", prepend="never",
                 specials=None, flags=None, normalizer=None):
        """pieces [(str, log probability)] by id; specials {text: id}, which no text matches, and
        their flags as in FastBPE. Scores above 0 will do as well.

        unk_id: the id for what no piece covers, or None; byte_fallback: write its bytes as <0x00>
        … <0xFF> instead. rule: "spaces" starts a word at each space, "whole" makes one word of all,
        "words" drops white space and puts a space before each word (T5), and day 25's rules are
        there too. prepend: where a space is put before a text that has none: "always" (in each part
        between special tokens), "first" or "never". normalizer: as a tokenizer.json has it.
        ValueError if wrong.
        """
        self.pieces = [(piece, float(score)) for piece, score in pieces]
        self.specials, self.unk_id, self.byte_fallback = dict(specials or {}), unk_id, byte_fallback
        self.rule, self.prepend, self.vocab_size = rule, prepend, len(self.pieces)
        self.flags, self.normalizer = dict(flags or {}), normalizer
        self.normalize = normalizer_of(normalizer, STEPS)
        check(self.pieces, unk_id, rule, prepend, self.specials)
        names, scores = zip(*self.pieces)
        hidden = set(self.specials.values())
        texts = [name.replace(META, " ").encode() for name in names]
        self.table, unk = list(texts), -1 if unk_id is None else unk_id
        byte_ids = np.full(256, -1, dtype=np.int32)
        if byte_fallback:
            ids = {name: i for i, name in enumerate(names)}
            byte_ids[:] = [ids.get(name, -1) for name in BYTES]
        for b in np.flatnonzero(byte_ids >= 0):
            self.table[byte_ids[b]] = bytes([b])
        silent = [i for i in (*byte_ids, unk) if i >= 0 and len(names[i]) > 1]
        self.segmenter = Segmenter(
            trie_of([b"" if i in hidden else piece for i, piece in enumerate(texts)]),
            np.array([*scores, min(scores) - PENALTY]), inner(rule), unk, byte_ids, silent)

    @classmethod
    def train(cls, texts, vocab_size, byte_fallback=True, rule="spaces", prepend="never",
              specials=(), longest=16, seeds=4, report=None):
        """Learn from a str, or from an iterable of str whose texts are taken one at a time.

        Ids: <unk>, the 256 bytes if byte_fallback, the pieces (all single characters, and others of
        up to `longest` characters; the most probable first), the specials. Fewer than vocab_size in
        all only where no more substrings repeat. The specials are taken out of the texts before
        anything is counted. seeds, report: see learn_pieces. With the defaults every text comes
        back from its ids, except that a ▁ becomes a space. ValueError for a vocab_size below the
        alphabet, an unknown rule, and a special token that texts would need.
        """
        bytes_ = BYTES if byte_fallback else []
        specials = [name for name in specials if name != UNKNOWN]
        wrong = [name for name in specials if len(name) == 1 or META in name]
        if wrong:
            raise ValueError(f"the special token {wrong[0]!r} is one character, or has a ▁, which "
                             "stands for a space in pieces; give it another name")
        names = {UNKNOWN, *bytes_, *specials}
        check_rule(rule, prepend)
        texts = [texts] if isinstance(texts, (str, bytes)) else texts
        parts = (spaced(part, rule, prepend, k == 0) for parts in without(texts, specials)
                 for k, part in enumerate(parts) if part)
        learned = learn_pieces(parts, vocab_size - len(names), inner(rule), longest, seeds,
                               "".join(bytes_), report)
        # 12 decimals: the reader in Hugging Face changes the last bit of longer numbers
        learned = [(name, round(score, 12)) for name, score in (
            (piece.decode().replace(" ", META), score) for piece, score in learned)
            if name not in names]
        # a text may spell "<0x41>", whose six characters must be likelier than the byte's piece
        low = round(7 * min([score for _, score in learned], default=-1.0), 12)
        pieces = [(UNKNOWN, 0.0), *((name, low) for name in bytes_), *learned,
                  *((name, 0.0) for name in specials)]
        last = range(len(pieces) - len(specials), len(pieces))
        return cls(pieces, 0, byte_fallback, rule, prepend,
                   {UNKNOWN: 0, **dict(zip(specials, last))})

    def encode(self, text, special=()):
        """str -> (T,) int32: the most probable segmentation. special: as FastBPE.encode."""
        parts = self.cut(text, special)
        return self.join(parts, iter(self.segmenter.encode(parts[::2])))

    def encode_batch(self, texts, special=(), threads=2):
        """A list of str -> a list of (T,) int32, encoded on several threads."""
        if isinstance(texts, str):
            raise ValueError("encode_batch takes a list of str; for one str use encode")
        cut = [self.cut(text, special) for text in texts]
        plain = [part for parts in cut for part in parts[::2]]
        read = np.cumsum([0, *map(len, plain)])
        marks = [*np.searchsorted(read, np.arange(0, read[-1] + 1, TASK)).tolist(), len(plain)]
        tasks = [plain[a:b] for a, b in zip(marks, marks[1:])]
        with ThreadPoolExecutor(threads) as pool:          # no thread starts where none is needed
            each = pool.map if threads > 1 and len(tasks) > 1 else map
            done = (ids for task in each(self.segmenter.encode, tasks) for ids in task)
            return [self.join(parts, done) for parts in cut]

    def sample(self, text, alpha, rng, special=()):
        """str -> (T,) int32: a segmentation drawn with probability ∝ p(segmentation)^alpha.

        alpha = 0 makes all equally likely, a large one is `encode`. rng: np.random.Generator.
        Source: Kudo 2018, section 3.3, here exact instead of over the n best.
        """
        if not 0 <= alpha <= 1e6:
            raise ValueError(f"alpha must be 0 or more and at most 1e6, not {alpha}")
        parts = self.cut(text, special)
        return self.join(parts, (self.segmenter.sample(p, alpha, rng) for p in parts[::2]))

    def spaced(self, text, first):
        """A text between special tokens, with the spaces that rule and `prepend` ask for."""
        return spaced(text, self.rule, self.prepend, first)

    def join(self, parts, plain):
        """The ids of one text that was cut; ValueError where it has a character without a piece."""
        ids = super().join(parts, plain)
        if self.unk_id is None and (ids < 0).any():
            known = {piece for piece, _ in self.pieces} - set(self.specials)
            lacking = next(c for c in "".join(parts[::2]) if c.replace(" ", META) not in known)
            raise ValueError(f"this vocabulary has no piece for {lacking!r} and no unknown token; "
                             "remove the character, or use another vocabulary")
        return ids

    def log_likelihood(self, text):
        """Log probability of a text, in nats: summed over all its segmentations."""
        return self.segmenter.log_likelihood(self.cut(text)[0])

    def decode(self, ids):
        """(T,) ids -> str; bytes that are not UTF-8 become U+FFFD. ValueError for unknown ids."""
        text = FastBPE.decode(self, ids).replace(META, " ")     # a ▁ that came as its bytes
        return text[1:] if self.prepend != "never" and text[:1] == " " else text

    def save(self, path):
        """Write Hugging Face's tokenizer.json, atomically."""
        write_atomically(Path(path), to_json(self))

    @classmethod
    def load(cls, path):
        """Read a tokenizer.json, or the one in a folder. VocabularyError says what is wrong."""
        path = Path(path)
        try:
            return cls(**from_json(read(path / "tokenizer.json" if path.is_dir() else path)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise VocabularyError(f"cannot read the vocabulary {path}: {error}") from None


def check(pieces, unk_id, rule, prepend, specials):
    """Raise ValueError unless the parts of a Unigram tokenizer fit together."""
    check_rule(rule, prepend)
    names = set()
    for i, (piece, score) in enumerate(pieces):
        if not isinstance(piece, str) or not piece or piece in names:
            raise ValueError(f"id {i} is {piece!r}, which is "
                             f"{'there twice' if piece in names else 'no piece'}")
        if not -np.inf < score < MOST_SCORE:
            raise ValueError(f"the piece {piece!r} has {score} for a score")
        names.add(piece)
    if not pieces:
        raise ValueError("the vocabulary is empty")
    if unk_id is not None and not (isinstance(unk_id, int) and 0 <= unk_id < len(pieces)):
        raise ValueError(f"unk_id {unk_id!r} is not among the {len(pieces)} ids")
    for text, i in specials.items():
        if not (isinstance(i, int) and 0 <= i < len(pieces)) or pieces[i][0] != text:
            raise ValueError(f"special token {text!r} has the id {i!r}, which is not its own")
