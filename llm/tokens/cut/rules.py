"""Day 26 · Where words begin for a Unigram model, and which texts get a space before them.

Leaves out: finding the ends of words in bytes; see segmenter.py.
"""

import re

from llm.tokens.engine.specials import BLANKS
from llm.tokens.engine.split import RULES
from llm.tokens.files.llama import META, PREPEND

WORDS = re.compile(f"[^{BLANKS}]+")


def inner(rule):
    """The rule by which words are cut once the spaces are where they should be."""
    return "spaces" if rule == "words" else rule


def check_rule(rule, prepend):
    """ValueError unless `rule` is "spaces" (a word starts at each space), "words" (what is between
    white space) or one of day 25's, and goes together with `prepend`."""
    if inner(rule) != "spaces" and rule not in RULES:
        raise ValueError(f"no splitting rule {rule!r}; there are spaces, words, {', '.join(RULES)}")
    if prepend not in PREPEND or (rule == "words" and prepend != "always") or (
            prepend != "never" and inner(rule) not in ("spaces", "whole")):
        raise ValueError(f"prepend is one of {', '.join(PREPEND)}, always with the rule words, and "
                         f"never with day 25's rules but whole; not {prepend!r} with {rule}")


def spaced(text, rule, prepend, first):
    """The text with a space before it, or before each of its words, where that is asked for.

    first: whether the text is what its author began with, not what follows a special token.
    """
    if rule == "words":
        return "".join(word if word[0] == META else " " + word for word in WORDS.findall(text))
    wanted = prepend == "always" or (prepend == "first" and first)
    return " " + text if wanted and text[:1] not in ("", " ", META) else text
