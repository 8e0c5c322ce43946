"""Day 52 · What a chat template computes with: numbers, truth values, lists, dicts, and `Text`.

A `Text` remembers which parts the template wrote and which came in as values, however they are
joined, so that later only the template's own parts can become control tokens.
Left out: floats, and text operations but joining, comparing and stripping.
"""

from dataclasses import dataclass


class TemplateError(ValueError):
    """The chat template is damaged, uses what is not supported, or says itself what is wrong."""


@dataclass(frozen=True)
class Text:
    """A string in parts (str, own): own is true where the template wrote the part itself."""

    parts: tuple = ()

    def __str__(self):
        return "".join(part for part, _ in self.parts)

    def __add__(self, other):
        return Text(self.parts + other.parts)

    def strip(self):
        """Without white space at both ends; what is left keeps its origin."""
        whole = str(self)
        first, last = len(whole) - len(whole.lstrip()), len(whole.rstrip())
        kept, at = [], 0
        for part, own in self.parts:
            kept.append((part[max(first - at, 0):max(last - at, 0)], own))
            at += len(part)
        return Text(tuple(kept))


def given(value):
    """A value from outside: its strings become Text that the template did not write."""
    if isinstance(value, str):
        return Text(((value, False),))
    if isinstance(value, dict):
        return {key: given(part) for key, part in value.items()}
    return [given(part) for part in value] if isinstance(value, (list, tuple)) else value


def own(string):
    """A string of the template's own."""
    return Text(((string, True),))


def as_text(value):
    """A value as Text. None, which an unknown name or key gives, prints nothing."""
    if isinstance(value, Text):
        return value
    if value is None:
        return Text()
    if isinstance(value, int):
        return own(str(value))
    raise TemplateError(f"the chat template prints a {type(value).__name__}")


def plain(value):
    """Text as str, to compare; anything else as it is."""
    return str(value) if isinstance(value, Text) else value


def truth(value):
    """As in Python: empty text, lists and dicts, 0 and none are false."""
    return bool(plain(value))


def number(value):
    """The value, which must be a whole number or a truth value; else TemplateError."""
    if isinstance(value, int):
        return value
    raise TemplateError(f"the chat template computes with {str(value)[:20]!r}, which is no number")


def contains(part, whole):
    """`part in whole` for a text, a list or the keys of a dict; else TemplateError."""
    if isinstance(whole, (Text, list, dict)):
        return plain(part) in (plain(whole) if not isinstance(whole, list) else map(plain, whole))
    raise TemplateError(f"the chat template looks into {str(whole)[:20]!r}, which holds nothing")


def add(a, b):
    """Numbers add up; all else is joined as text."""
    return a + b if type(a) is type(b) is int else as_text(a) + as_text(b)


def item(value, key):
    """value[key] or value.key; none where there is no such thing."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def rest(value, first):
    """value[first:] of a list."""
    if isinstance(value, list):
        return value[number(first):]
    raise TemplateError("the chat template cuts what is no list")


def complain(said):
    """What a template's own raise_exception does: TemplateError with its message."""
    raise TemplateError(f"the chat template refuses this conversation: {as_text(said)!s:.200}")
