"""Day 26 · The steps by which Unigram's normalizers change a text, added to those of day 25.

Leaves out: steps that no published tokenizer of this kind has; they are refused by name.
"""

import functools
import re
import unicodedata

from llm.tokens.engine.specials import BLANKS
from llm.tokens.files import added
from llm.tokens.files.charsmap import precompiled


def strip(step):
    """Take white space off the ends that the step names."""
    left, right = step["strip_left"], step["strip_right"]

    def stripped(text):
        text = text.lstrip(BLANKS) if left else text
        return text.rstrip(BLANKS) if right else text
    return stripped, 1


def replace(step):
    """Replace a string, or a run of two and more spaces, which is the one expression known."""
    if step["pattern"].get("Regex") != " {2,}":
        return added.replace(step)
    spaces, new = re.compile(" {2,}"), step["content"]
    return lambda text: spaces.sub(lambda _: new, text), max(1, len(new) / 2)


@functools.cache
def marks():
    """{code point: None} of all combining marks."""
    return {c: None for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"}


def lower(text):
    """Small letters, each by itself: a Σ at the end of a word becomes σ, not ς."""
    return text.replace("Σ", "σ").lower()


STEPS = {**added.STEPS, "Precompiled": precompiled, "Strip": strip, "Replace": replace,
         "StripAccents": lambda step: (lambda text: text.translate(marks()), 1),
         "Lowercase": lambda step: (lower, 3)}
