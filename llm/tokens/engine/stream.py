"""Day 25 · Encoding text that is larger than memory: the same ids, one piece at a time.

A text may be cut only where no rule looks across: after a word that does not end in white space,
far enough from the end of what has been read so far that more text could not change that word.
Memory is bounded by the block and the longest word (under the rule "whole" that is all the text).
Leaves out: threads; the pieces come in order.
"""

import numpy as np

from llm.tokens.bpe import VocabularyError, to_bytes
from llm.tokens.engine.specials import pattern_of
from llm.tokens.engine.split import all_ends

LOOK_AHEAD = 4           # code points after a word that may still change where it ends


def encode_stream(tokenizer, chunks, special=()):
    """Yield (T,) int32 arrays: joined, they are the ids of the joined chunks (str).

    ValueError where the tokenizer normalises: a letter and its accent might be cut apart, or a
    space put before each part; and where a special token takes white space along.
    """
    if not tokenizer.as_is:
        raise ValueError("a stream cannot be cut before it is normalised: normalise the text, for "
                         "NFC with unicodedata.normalize, and use a tokenizer that changes none")
    finder = tokenizer.pattern(special)
    if not finder.plain:
        raise ValueError("a stream cannot be cut near special tokens with flags such as lstrip; "
                         "allow others, or encode the text as a whole")
    names = pattern_of(finder.early)
    longest = max(map(len, tokenizer.specials), default=0) if special else 0
    rest, wait = "", 0
    for chunk in chunks:
        rest += chunk
        if len(rest) < wait:
            continue
        cut = safe_cut(rest, tokenizer.rule, names, longest)
        if cut:
            yield tokenizer.encode(rest[:cut], special)
            rest = rest[cut:]
        wait = 0 if cut else 2 * len(rest)         # looked at anew after doubling: O(T) in sum
    if rest:
        yield tokenizer.encode(rest, special)


def safe_cut(text, rule, names, longest):
    """The last place, in characters, where text may be cut whatever follows; 0 if there is none."""
    start, limit = 0, len(text) - max(2 * longest, LOOK_AHEAD)
    for found in names.finditer(text):
        if found.end() <= len(text) - longest:
            start = found.end()                    # a special token is a border on both sides
        else:
            limit = min(limit, found.start())
    if limit <= start:
        return start
    tail = text[start:]
    data = np.frombuffer(to_bytes(tail), dtype=np.uint8)
    ends = all_ends(data, rule)
    last = len(to_bytes(text[start:limit]))
    safe = np.searchsorted(ends, last, side="right") - (rule == "o200k")     # see the note
    for end in ends[:max(safe, 0)][::-1].tolist():
        done = data[:end].tobytes().decode()
        if not done[-1].isspace():
            return start + len(done)
    return start


def encode_file(tokenizer, path, special=(), block=1 << 20):
    """Yield the ids of a UTF-8 file, reading `block` characters at a time; line ends are kept."""
    with open(path, encoding="utf-8", newline="") as file:
        try:
            yield from encode_stream(tokenizer, iter(lambda: file.read(block), ""), special)
        except UnicodeDecodeError as error:
            raise VocabularyError(f"{path} is not UTF-8 text: {error}") from None
