"""Day 25 · Special tokens in a text: where they stand, and how much white space they take along.

A file may give a token four flags. lstrip, rstrip: the white space on its left, or right, is part
of it. single_word: it is text where a letter, mark, digit or underscore stands beside it.
normalized: it is looked for later than the others, in what they left, after that was normalised.
Leaves out: how text between special tokens becomes ids; see FastBPE, WordPiece and Unigram.
"""

import re
import unicodedata

import numpy as np

from llm.tokens.bpe import to_bytes
from llm.tokens.engine.classes import WHITE_SPACE

FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
BLANKS = "".join(map(chr, WHITE_SPACE))
BLANK = re.compile(f"[{re.escape(BLANKS)}]*")
WORD = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"}
CIRCLED = (*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A),
           *range(0x1F170, 0x1F18A))            # letters to Unicode's \w, though not by category
OTHERS = {"\u200c", "\u200d", *map(chr, CIRCLED)}


def is_word(character):
    """Does Unicode's \\w match it? Source: Unicode Technical Standard 18, annex C."""
    return unicodedata.category(character) in WORD or character in OTHERS


class Finder:
    """Finds some special tokens: the leftmost first, and of two at one place the longer one."""

    def __init__(self, names, flags, normalize=None):
        """names of special tokens; flags {name: those of FLAGS that it has}; normalize: str -> str
        is done to what the first tokens left, and to the names of those that are looked for then.
        """
        late = {name for name in names if "normalized" in flags.get(name, ())}
        self.flags, self.normalize = flags, normalize
        self.plain = not any(flags.get(name) for name in names)
        self.early = {name: name for name in names if name not in late}
        self.late = {}
        for name in names:
            if name in late:
                self.late.setdefault(normalize(name) if normalize else name, name)

    def split(self, text):
        """[text, token, text, token, …, text], what is between the tokens normalised."""
        parts = self.found(text, self.early)
        if self.late or self.normalize:
            parts = [piece for k, part in enumerate(parts) for piece in (
                [part] if k % 2 else self.found(
                    self.normalize(part) if self.normalize else part, self.late))]
        return parts

    def found(self, text, names):
        """[text, token, …, text] for the tokens of names {what the text has: token}. O(T).

        Source: Hugging Face tokenizers, added_vocabulary.rs, `find_matches`.
        """
        parts, last, white = [], 0, 0
        for match in pattern_of(names).finditer(text):
            start, stop = match.span()
            flags = self.flags.get(names[match[0]], ())
            if "single_word" in flags and (is_word(text[start - 1:start] or " ")
                                           or is_word(text[stop:stop + 1] or " ")):
                continue
            if "lstrip" in flags:                          # but not what a token before it took
                start = last + len(text[last:start].rstrip(BLANKS))
            if "rstrip" in flags:
                stop = white = BLANK.match(text, max(stop, white)).end()
            parts += [text[last:start], names[match[0]]]
            last = stop
        return [*parts, text[last:]]


def pattern_of(names):
    """A regular expression for any of the names."""
    names = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) if names else "(?!)")


def without(texts, names):
    """The parts of each text between the special tokens named, one text at a time."""
    finder = Finder(list(names), {})
    for text in texts:
        to_bytes(text)                                     # says what is wrong
        yield finder.split(text)[::2] if names else [text]


class Marked:
    """What tokenizers share: a text is cut at its special tokens, and their ids are put between.

    A tokenizer has specials {text: id} and flags {text: flags}; `normalize` is None or str -> str.
    as_is: text without special tokens is not changed. strips: decoding takes a first space off.
    """

    flags, normalize, as_is, strips = {}, None, True, False

    def names(self, special):
        """The special tokens named, or "all": a list. ValueError if one is unknown."""
        if isinstance(special, str):
            special = self.specials if special == "all" else [special]
        for name in (names := list(special)):
            if name not in self.specials:
                raise ValueError(f"unknown special token {name!r}; this vocabulary has "
                                 f"{', '.join(map(repr, self.specials)) or 'none'}")
        return names

    def pattern(self, special):
        """What finds the special tokens named in a text that is not to be normalised."""
        return Finder(self.names(special), self.flags)

    def cut(self, text, special=()):
        """[text, special token, text, …], the texts normalised, and with the spaces they need."""
        to_bytes(text)                                     # says what is wrong
        parts = Finder(self.names(special), self.flags, self.normalize).split(text)
        parts[::2] = [self.spaced(part, k == 0) for k, part in enumerate(parts[::2])]
        return parts

    def spaced(self, text, first):
        """A text between special tokens, with a space before it where that is asked for."""
        return text

    def join(self, parts, plain):
        """The ids of one text cut into text, special, text, …"""
        ids = [next(plain)]
        for name in parts[1::2]:
            ids += [np.array([self.specials[name]], dtype=np.int32), next(plain)]
        return np.concatenate(ids)
