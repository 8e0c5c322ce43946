"""Day 25 · Special tokens in a tokenizer.json, and what is done to a text before it is cut.

`added_tokens` is a list of tokens with an id and four flags (see engine/specials.py); `normalizer`
is an object, or a sequence of objects, of which each means one step.
Leaves out: the difference between special tokens and others that were added, which matters only to
those who leave special tokens out of a decoded text.
"""

import functools
import unicodedata

from llm.tokens.engine.specials import FLAGS

NFC = {"type": "NFC"}
MOST_GROWTH = 1000       # characters that one may become: a file must not ask for terabytes


def read_added(found):
    """The parts of a tokenizer.json -> ({text: id}, {text: flags}) of its added tokens."""
    specials, flags = {}, {}
    for token in found.get("added_tokens") or ():
        specials[token["content"]] = token["id"]
        if any(token.get(flag) for flag in FLAGS):
            flags[token["content"]] = tuple(flag for flag in FLAGS if token.get(flag))
    return specials, flags


def write_added(specials, flags):
    """The list that `read_added` reads."""
    return [{"id": i, "content": text, **{flag: flag in flags.get(text, ()) for flag in FLAGS},
             "special": True} for text, i in specials.items()]


def replace(step):
    """A step that writes one string for another: (str -> str, growth)."""
    old, new = step["pattern"].get("String"), step["content"]
    if not old or not isinstance(old, str) or not isinstance(new, str):
        raise ValueError(f"normalizer {step!r} is not supported: only a pattern that is a String")
    return lambda text: text.replace(old, new), max(1, len(new) / len(old))


def prepend(step):
    """A step that writes a string before a text that is not empty: (str -> str, growth)."""
    first = step["prepend"]
    return lambda text: first + text if text else text, 1 + len(first)


def form(name, growth):
    """A step into one of Unicode's forms, which makes `growth` characters of one at most."""
    return lambda step: (functools.partial(unicodedata.normalize, name), growth)


STEPS = {"NFC": form("NFC", 3), "NFD": form("NFD", 4), "NFKC": form("NFKC", 18),
         "NFKD": form("NFKD", 18), "Prepend": prepend, "Replace": replace}


def normalizer(found, steps=STEPS):
    """The function str -> str that a normalizer object means, or None. ValueError if unknown."""
    flat, growth = [], 1
    for step in unpacked(found):
        if step["type"] not in steps:
            raise ValueError(f"normalizer {str(step)[:200]} is not supported")
        function, larger = steps[step["type"]](step)
        flat, growth = [*flat, function], growth * larger
    if growth > MOST_GROWTH or len(flat) > 64:
        raise ValueError(f"the normalizer's steps can make a text {growth:g} times as long")
    if len(flat) < 2:
        return flat[0] if flat else None
    return lambda text: functools.reduce(lambda done, function: function(done), flat, text)


def unpacked(found):
    """The steps of a normalizer object, one after another."""
    if not found:
        return []
    if found["type"] != "Sequence":
        return [found]
    return [step for part in found["normalizers"] for step in unpacked(part)]
