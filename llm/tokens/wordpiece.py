"""Day 26 · WordPiece: the tokenizer of BERT.

A piece that continues a word is written with ## before it: "un ##afford ##able". `train` merges
where that raises the likelihood of the text most; `encode` takes the longest piece each time and
has no merges to replay: the vocabulary is a plain list of strings. A word that cannot be cut is
[UNK]. Not all comes back: `decode` gives lower case, no accents and one space between words.
Leaves out: the [CLS] … [SEP] around a text, which belong to the model's input and not to the text;
texts larger than memory.
"""

from pathlib import Path

import numpy as np

from llm.data.download import write_atomically
from llm.tokens.bpe import VocabularyError, to_bytes
from llm.tokens.cut.bert import Bert
from llm.tokens.cut.longest import Matcher
from llm.tokens.engine.specials import Marked, without
from llm.tokens.fast_bpe import FastBPE
from llm.tokens.files.wordpiece import SPECIALS, read_vocabulary, to_json
from llm.tokens.learn.wordpiece import SCORES, alphabet, count_words, learn_pieces

CONTRACTIONS = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
                (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"),
                (" 're", "'re"))           # what `cleanup` puts together, in this order


class WordPiece(Marked):
    """A list of pieces, the text preparation that goes with it, and special tokens."""

    # Batches and threads are as on day 25: these methods need only `encode_task`.
    encode_batch, encode_plain = FastBPE.encode_batch, FastBPE.encode_plain

    def __init__(self, pieces, specials=SPECIALS, unknown="[UNK]", prefix="##", longest=100,
                 bert=None, cleanup=True, flags=None):
        """pieces: list of str, the piece of id i at place i; specials: which of them are no text;
        flags: theirs, as in FastBPE.

        Words of more than `longest` characters are unknown. cleanup: `decode` puts signs such as
        the full stop to the word before. Raises ValueError where these contradict each other.
        """
        self.pieces, self.ids = list(pieces), {piece: i for i, piece in enumerate(pieces)}
        check(self.pieces, self.ids, specials, unknown, longest)
        self.specials = {name: self.ids[name] for name in specials}
        self.flags = dict(flags or {})
        self.unknown, self.prefix, self.longest = unknown, prefix, longest
        self.bert, self.cleanup = bert or Bert(), cleanup
        self.vocab_size = len(self.pieces)
        text = [None if piece in self.specials or piece == unknown else piece
                for piece in self.pieces]
        begin = [piece and to_bytes(piece) for piece in text]
        inside = [to_bytes(piece[len(prefix):]) if piece and piece.startswith(prefix) else None
                  for piece in text]
        self.encoder = Matcher(begin, inside, self.ids[unknown], longest)
        self.table = [self.behind(piece).encode() for piece in self.pieces]

    @classmethod
    def train(cls, texts, vocab_size, specials=SPECIALS, min_count=2, lower=True, score="gain"):
        """Learn from a str, or from an iterable of str whose texts are taken one at a time.

        vocab_size counts the specials, the alphabet and the learned pieces, in this order of ids;
        there are fewer where no pair that occurs min_count times is worth merging. The specials are
        taken out of the texts before anything is counted. score: "gain", by how much the text's
        likelihood rises (Schuster and Nakajima 2012); "ratio", n_ab/(n_a n_b), the same for one
        occurrence, which is how WordPiece is often told; "frequency", n_ab, which is byte-pair
        encoding, and what Hugging Face's WordPieceTrainer does. Raises ValueError for an unknown
        score, and for a vocab_size below the specials and the alphabet.
        """
        if score not in SCORES:
            raise ValueError(f"no score {score!r}; there are {', '.join(SCORES)}")
        bert, prefix = Bert(lower=lower), "##"
        texts = without([texts] if isinstance(texts, (str, bytes)) else texts, specials)
        words = count_words((part for parts in texts for part in parts), bert)
        pieces = [*specials, *alphabet(words, prefix)]
        if vocab_size < len(pieces):
            raise ValueError(f"vocab_size {vocab_size} is smaller than the {len(specials)} special "
                             f"tokens and the alphabet of {len(pieces) - len(specials)} pieces "
                             "(each character, alone and with ##); ask for more")
        learn_pieces(words, pieces, vocab_size, min_count, score, prefix)
        return cls(pieces, specials, prefix=prefix, bert=bert)

    def encode(self, text, special=()):
        """str -> (T,) int32. special: "all", or the special tokens recognised in this text."""
        if special:
            return self.encode_batch([text], special, threads=1)[0]
        return self.encode_task([text])[0]

    def encode_task(self, texts):
        """A list of str -> their ids, each a view of one array."""
        parts = list(map(self.bert.prepare, texts))
        data = np.frombuffer(b"".join(parts), dtype=np.uint8)
        ids, offsets = self.encoder.encode(data, np.cumsum([*map(len, parts)], dtype=np.int64))
        ends = offsets.tolist()
        return [ids[a:b] for a, b in zip([0, *ends], ends)]

    def behind(self, piece):
        """How a piece is written behind others: "##ing" -> "ing", "dog" -> " dog", "." -> "."."""
        if piece.startswith(self.prefix):
            return piece[len(self.prefix):]
        text = " " + piece
        for apart, together in CONTRACTIONS if self.cleanup else ():
            text = text.replace(apart, together)
        return text

    def decode(self, ids):
        """(T,) ids -> str, words joined by spaces. ValueError for unknown ids.

        Encoding the result gives the same ids, where they came from a text without unknown words.
        """
        text = FastBPE.decode(self, ids)                   # checks the ids and joins `table`
        if not len(ids):
            return text
        first = int(ids[0])
        return self.pieces[first] + text[len(self.table[first].decode()):]

    def save(self, path):
        """Write Hugging Face's tokenizer.json, atomically; `write_vocab` writes BERT's own file."""
        write_atomically(path, to_json(self))

    @classmethod
    def load(cls, path, lower=True):
        """Read a tokenizer.json, or BERT's vocab.txt, which does not say whether to `lower`."""
        try:
            return cls(**read_vocabulary(Path(path), lower))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise VocabularyError(f"cannot read the vocabulary {path}: {error}") from None


def check(pieces, ids, specials, unknown, longest):
    """Raise ValueError unless every piece is a str of its own, and the special ones are there."""
    wrong = [piece for piece in pieces if not isinstance(piece, str) or not piece]
    if wrong:
        raise ValueError(f"a piece must be a str of one character or more, not {wrong[0]!r}")
    if len(ids) < len(pieces):
        twice = next(piece for i, piece in enumerate(pieces) if ids[piece] != i)
        raise ValueError(f"the piece {twice!r} is in the vocabulary twice")
    for name in (unknown, *specials):
        if name not in ids:
            raise ValueError(f"the special token {name!r} is not in the vocabulary; name it "
                             "among the pieces")
    if not isinstance(longest, int) or longest < 1:
        raise ValueError(f"longest is {longest!r}; a word has one character or more")
