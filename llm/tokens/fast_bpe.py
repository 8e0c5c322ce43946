"""Day 25 · A fast byte-pair tokenizer, id for id the ones people use.

`FastBPE.train` learns merges as day 24 does, but inside the words of a splitting rule (`split.py`);
`load` reads GPT-2's `vocab.json` + `merges.txt` and Hugging Face's `tokenizer.json`; `encode` is
exact and linear in the text. Special tokens are recognised only where the caller allows them.
Leaves out: dropout, and tokens for unknown characters.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from llm.data.download import write_atomically
from llm.tokens.bpe import VocabularyError, to_bytes
from llm.tokens.engine.encoder import Encoder
from llm.tokens.engine.specials import Marked, without
from llm.tokens.engine.split import AT_SPACES, rule_numbers
from llm.tokens.engine.vocabulary import check, cuts_at_spaces, first_symbols
from llm.tokens.files.added import normalizer as normalizer_of
from llm.tokens.files.bpe import read_vocabulary, to_json
from llm.tokens.files.llama import META, PREPEND
from llm.tokens.learn.bpe import learn_merges

SHORT = 2_000            # bytes: below, the fixed cost of a compiled call is what counts
TASK = 1 << 18           # characters of text that one thread takes at a time


class FastBPE(Marked):
    """A vocabulary, its merges by rank, a splitting rule and special tokens."""

    def __init__(self, pieces, merges, rule="gpt2", specials=None, whole_words=False,
                 normalizer=None, flags=None, prepend="never", fallback=None):
        """pieces {id: bytes}; merges (M, 3) ids a, b, new by rank; specials {text: id}, and their
        flags {text: of lstrip, rstrip, single_word, normalized} (see engine/specials.py).

        whole_words: a word that is a piece becomes that piece, even where merges would not make it
        (tiktoken, Llama 3). normalizer: as a tokenizer.json has it; {"type": "NFC"} puts text into
        Unicode's composed form first (Qwen, GPT-NeoX), "NFKC" also writes ﬁ as fi (Claude).
        prepend: where a space is put before a text that has none: "always" (in each part between
        special tokens), "first" or "never".
        fallback {byte: id}: pieces are characters, and others become their bytes (Llama 2).
        Raises ValueError where these contradict each other. A vocabulary may lack bytes that its
        training text never had, but not printable ASCII.
        """
        self.pieces, self.rule, self.specials = dict(pieces), rule, dict(specials or {})
        self.merges = np.array(merges, dtype=np.int64).reshape(-1, 3)
        check(self.pieces, self.merges, self.specials, fallback or {})
        if prepend not in PREPEND or (fallback is None and prepend == "first") or (
                fallback is not None and (rule != "whole" or whole_words)):
            raise ValueError(f"prepend {prepend!r}, rule {rule!r}, whole_words {whole_words} do "
                             "not go together; with fallback the rule is 'whole', and 'first' is "
                             "for it only")
        self.merges = self.merges.astype(np.int32)
        base, chars = first_symbols(self.pieces, fallback)
        self.whole_words, self.flags = whole_words, dict(flags or {})
        self.normalizer, self.normalize = normalizer, normalizer_of(normalizer)
        self.prepend, self.fallback = prepend, fallback
        self.as_is = normalizer is None and prepend == "never" and fallback is None
        self.strips = fallback is not None and self.cut("x")[0] == " x"
        at_spaces = fallback is not None and cuts_at_spaces(pieces)
        whole = whole_words and {piece: i for i, piece in self.pieces.items() if len(piece) > 1}
        self.encoder = Encoder(base, self.merges, AT_SPACES if at_spaces else rule_numbers(rule),
                               whole, chars)
        texts = {i: text.encode() for text, i in self.specials.items()}
        texts |= {i: bytes([b]) for b, i in (fallback or {}).items()}
        self.vocab_size = max(max(self.pieces), *texts, 0) + 1
        self.table = [self.pieces.get(i, texts.get(i, b"")) for i in range(self.vocab_size)]

    @classmethod
    def from_merges(cls, pairs, rule="whole", specials=(), order=range(256)):
        """From pairs of ids as day 24 keeps them; id i < 256 is the byte order[i]."""
        pieces = [bytes([b]) for b in order]
        pairs = [(int(a), int(b)) for a, b in pairs]
        for a, b in pairs:
            pieces.append(pieces[a] + pieces[b])
        merges = [(a, b, 256 + i) for i, (a, b) in enumerate(pairs)]
        specials = {text: len(pieces) + i for i, text in enumerate(specials)}
        return cls(dict(enumerate(pieces)), merges, rule, specials)

    @classmethod
    def train(cls, texts, vocab_size, rule="gpt2", specials=(), min_count=2, order=range(256)):
        """Learn from a str, or from an iterable of str whose texts are taken one at a time.

        vocab_size counts the 256 bytes, the merges (fewer where no pair occurs min_count times
        any more) and the specials, which come last and are taken out of the texts before anything
        is counted. Same counts, same ties as day 24.
        """
        rule_numbers(rule)
        wanted = vocab_size - 256 - len(specials)
        if wanted < 0:
            raise ValueError(f"vocab_size {vocab_size} is smaller than the base alphabet of 256 "
                             f"bytes and {len(specials)} special tokens; ask for more")
        texts = texts if not isinstance(texts, (str, bytes)) else [texts]
        parts = (part for parts in without(texts, specials) for part in parts)
        pairs = learn_merges(parts, wanted, rule, min_count, order)
        return cls.from_merges(pairs, rule, specials, order)

    def encode(self, text, special=()):
        """str -> (T,) int32. special: "all", or the special tokens recognised in this text.

        A special token that is not allowed is text like any other, so that what a user types can
        never act as a control token. Where two match at one place, the longer one counts.
        """
        if special:
            return self.encode_batch([text], special, threads=1)[0]
        data = to_bytes(text if self.as_is else self.cut(text)[0])
        if len(data) < SHORT:
            return self.encoder.encode_short(data)
        array = np.frombuffer(data, dtype=np.uint8)
        return self.encoder.encode(array, np.array([len(array)], dtype=np.int64))[0]

    def encode_batch(self, texts, special=(), threads=2):
        """A list of str -> a list of (T,) int32, encoded on several threads."""
        if isinstance(texts, str):
            raise ValueError("encode_batch takes a list of str; for one str use encode")
        texts = list(texts)
        for text in texts if set(map(type, texts)) - {str} else ():
            to_bytes(text)                                  # says what is wrong
        if not special and self.as_is:
            return self.encode_plain(texts, threads)
        cut = [self.cut(text, special) for text in texts]
        plain = iter(self.encode_plain([part for parts in cut for part in parts[::2]], threads))
        return [self.join(parts, plain) for parts in cut]

    def encode_plain(self, texts, threads):
        """A list of str without special tokens, normalised -> a list of (T,) int32."""
        read = np.cumsum([0, *map(len, texts)])
        cuts = [*np.searchsorted(read, np.arange(0, read[-1] + 1, TASK)).tolist(), len(texts)]
        tasks = [texts[a:b] for a, b in zip(cuts, cuts[1:])]
        if threads == 1 or len(tasks) == 1:
            return [ids for task in tasks for ids in self.encode_task(task)]
        with ThreadPoolExecutor(threads) as pool:
            return [ids for done in pool.map(self.encode_task, tasks) for ids in done]

    def spaced(self, text, first):
        """A text between special tokens as the encoder wants it, its spaces plain spaces."""
        text = text if self.fallback is None else text.replace(META, " ")
        wanted = self.prepend == "always" or (first and self.prepend == "first")
        return " " + text if wanted and text[:1] not in ("", " ") else text

    def encode_task(self, texts):
        """A list of str -> their ids, each a view of one array."""
        joined = "".join(texts)
        parts = texts if joined.isascii() else [to_bytes(text) for text in texts]
        data = joined.encode() if joined.isascii() else b"".join(parts)
        segments = np.cumsum([*map(len, parts)], dtype=np.int64)
        ids, offsets = self.encoder.encode(np.frombuffer(data, dtype=np.uint8), segments)
        ends = offsets.tolist()
        return [ids[a:b] for a, b in zip([0, *ends], ends)]

    def decode(self, ids):
        """(T,) ids -> str; bytes that are not UTF-8 become U+FFFD. ValueError for unknown ids."""
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"ids must be integers of shape (T,), not {ids.dtype} {ids.shape}")
        outside = (ids < 0) | (ids >= self.vocab_size)
        if outside.any():
            raise ValueError(f"id {ids[outside][0]} is not in the vocabulary of "
                             f"{self.vocab_size} ids")
        text = b"".join([self.table[i] for i in ids.tolist()]).decode("utf-8", "replace")
        return text[1:] if self.strips and text[:1] == " " else text

    def save(self, path):
        """Write Hugging Face's tokenizer.json, atomically; `write_gpt2` writes the older pair."""
        write_atomically(path, to_json(self.pieces, self.merges, self.rule, self.specials,
                                       self.whole_words, self.normalizer, self.flags, self.prepend,
                                       self.fallback, self.strips))

    @classmethod
    def load(cls, path):
        """Read a tokenizer.json, or a folder with vocab.json and merges.txt (GPT-2's rule)."""
        try:
            return cls(**read_vocabulary(Path(path)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise VocabularyError(f"cannot read the vocabulary {path}: {error}") from None
