"""Day 41 · A JSON shape as a regular expression, for `compile_pattern`.

    str int float bool None       any such value
    ("red", "green", 3)           one of these
    [shape]                       a list of any length
    {"name": shape, …}            an object with these keys, in this order
    anything(depth)               any value, its lists and objects nested at most `depth` deep

No spaces outside strings. Nesting is bounded because a finite automaton cannot count. Left out:
optional keys, bounds on numbers, schemas that refer to themselves.
"""

import json

STRING = r'"([^"\\\x00-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
INTEGER = r"-?(0|[1-9]\d*)"
NUMBER = INTEGER + r"(\.\d+)?([eE][+\-]?\d+)?"
TYPES = {str: STRING, int: INTEGER, float: NUMBER, bool: "true|false"}


def json_pattern(shape):
    """A shape -> a pattern that matches exactly its JSON texts. Raises ValueError on others."""
    if isinstance(shape, Anything):
        return shape.pattern
    if isinstance(shape, type) and shape in TYPES:
        return f"({TYPES[shape]})"
    if isinstance(shape, tuple) and shape:
        return "(" + "|".join(literal(choice) for choice in shape) + ")"
    if isinstance(shape, list) and len(shape) == 1:
        return r"\[" + listed(json_pattern(shape[0])) + r"\]"
    if isinstance(shape, dict) and all(isinstance(key, str) for key in shape):
        pairs = [f"{literal(key)}:{json_pattern(value)}" for key, value in shape.items()]
        return r"\{" + ",".join(pairs) + r"\}"
    if shape is None:
        return literal(None)
    raise ValueError(f"{shape!r} is no shape: write str, int, float, bool, None, (choices, …), "
                     "[shape], {'key': shape} or anything(depth)")


def literal(value):
    """The JSON text of one value, escaped for a pattern."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join("\\" + c if c in "\\.[]{}()*+?|^$" else c for c in text)


def listed(pattern):
    """Any number of `pattern`, with commas between."""
    return f"({pattern}(,{pattern})*)?"


class Anything:
    """See `anything`."""

    def __init__(self, depth):
        simple = f"{STRING}|{NUMBER}|true|false|null"
        self.pattern = f"({simple})"
        for _ in range(depth):                             # four copies of the last one in each
            lists, pairs = listed(self.pattern), listed(f"{STRING}:{self.pattern}")
            self.pattern = "(" + simple + r"|\[" + lists + r"\]|\{" + pairs + r"\})"


def anything(depth=1):
    """The shape of any JSON value nested at most `depth` deep; its pattern grows like 4^depth.

    Raises ValueError unless depth is 0, 1 or 2.
    """
    if not 0 <= depth <= 2:
        raise ValueError(f"depth must be 0 to 2, not {depth}: each level is four times as large")
    return Anything(depth)
