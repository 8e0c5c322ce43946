"""What of a note is prose: sections, and the text without code, formulas, tables and comments."""

import re

from days.tools.data import generated

COMMENT = re.compile(r"<!--.*?-->", re.S)
FORMULA = re.compile(r"\$\$.*?\$\$|\$(?!\s)[^$\n]+(?:\n[^$\n]+)?\$", re.S)
CODE = re.compile(r"`[^`\n]+`")
TABLE = re.compile(r"^[ \t]*\|.*$", re.M)
TAG = re.compile(r"</?\w+[^>\n]*>")
TARGET = re.compile(r"\]\([^)\n]*\)")


def blank(pattern, text):
    """The text with spaces in the place of every match, so that positions and lines stay."""
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def unfenced(text):
    """The text without its code blocks."""
    return blank(generated.FENCE, text)


def prose(text):
    """Only the sentences, each where it stood: no code, formulas, tables, comments or tags."""
    text = unfenced(text)
    for pattern in (COMMENT, TABLE, FORMULA, CODE, TAG, TARGET):
        text = blank(pattern, text)
    return text


def words(text):
    """How many words of prose there are; a lone dash or bullet is none."""
    return len(re.findall(r"\S*\w\S*", prose(text)))


def headings(text):
    """The second-level headings in order."""
    return re.findall(r"^## (.+?)\s*$", unfenced(text), re.M)


def section(text, heading):
    """(start, end) of what stands under one heading; (0, 0) where there is no such heading."""
    plain = unfenced(text)
    found = re.search(rf"^## {re.escape(heading)}\s*$", plain, re.M)
    if not found:
        return 0, 0
    following = re.compile(r"^## ", re.M).search(plain, found.end())
    return found.end(), following.start() if following else len(text)
