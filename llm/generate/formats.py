"""Day 64 · JSON mode: a response_format becomes day 41's automaton over the model's tokens.

"json_object" is any object; how deep its values may nest depends on how many cells the table of
states and tokens may have. "json_schema" is translated into day 41's shapes where it can be, and
refused by name where it cannot, since a schema that is half obeyed is worse than none.
Left out: optional keys, bounds on numbers and lengths, patterns, $ref; spaces between tokens.
Source: OpenAI, API reference, "Structured outputs", supported schemas.
"""

import threading

from llm.generate.automaton import compile_pattern
from llm.generate.constrain import Constraint, TokenTable
from llm.generate.pattern import PatternError
from llm.generate.refused import Refused
from llm.generate.shape import STRING, anything, json_pattern, listed

MOST_CELLS = 1 << 24           # states times tokens: 64 MB
MOST_TABLES = 8                # kept; the one that is longest unused goes
DEEPEST = 8
TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
WORDS = {"title", "description"}                    # say nothing about the text
ALLOWED = {"object": {"properties", "required", "additionalProperties"}, "array": {"items"}}


def refuse(message):
    """The Refused, to be raised, for a response_format that is not done here."""
    return Refused(400, f"response_format: {message}", "response_format")


def any_object(depth):
    """A pattern: an object with any keys, its values nested at most `depth` deep."""
    return r"\{" + listed(f"{STRING}:{anything(depth).pattern}") + r"\}"


def shape_of(schema, depth=0):
    """A JSON schema -> a shape of day 41's shape.py. Raises Refused on all that it cannot say."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        raise refuse(f"a schema must be an object, nested at most {DEEPEST} deep")
    said = set(schema) - WORDS
    if said <= {"enum", "const", "type"} and said & {"enum", "const"}:
        choices = schema["enum"] if "enum" in schema else [schema["const"]]
        if not isinstance(choices, list) or not choices or not all(
                isinstance(c, (str, int, float, bool, type(None))) for c in choices):
            raise refuse("enum must be a list of texts, numbers, true, false or null")
        return tuple(choices)
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in {*TYPES, *ALLOWED}:
        raise refuse(f"a schema's type must be one of {', '.join([*TYPES, *ALLOWED])}, not "
                     f"{str(kind)[:40]!r}")
    if odd := said - {"type"} - ALLOWED.get(kind, set()):
        raise refuse(f"{min(odd)!r} of a schema of type {kind!r} is not done here")
    if kind == "array":
        return [shape_of(schema.get("items"), depth + 1)]
    if kind == "object":
        inner = schema.get("properties", {})
        others, required = schema.get("additionalProperties", False), schema.get("required", inner)
        if not isinstance(inner, dict) or others is not False or (
                not isinstance(required, list | dict) or {*map(str, required)} != set(inner)):
            raise refuse("an object must name its properties, all of them required, and no others")
        return {key: shape_of(value, depth + 1) for key, value in inner.items()}
    return TYPES[kind]


class Formats:
    """The tables of one model, each made once, in whichever thread asks first."""

    def __init__(self, model):
        self.model, self.lock, self.tables = model, threading.Lock(), {}
        words = model.tokenizer
        special = set(words.specials.values())
        self.pieces = [b"" if i in special else bytes(words.table[i]) if i < words.vocab_size
                       else b"" for i in range(model.arch.V)]

    def pattern(self, wanted):
        """response_format -> a pattern, "json_object", or None for plain text; else Refused."""
        kind = wanted.get("type") if isinstance(wanted, dict) else wanted
        if kind in (None, "text"):
            return None
        if kind == "json_object":
            return "json_object"
        about = wanted.get("json_schema") if kind == "json_schema" else None
        if not isinstance(about, dict):
            raise refuse("its type must be text, json_object, or json_schema with a json_schema")
        try:
            return json_pattern(shape_of(about.get("schema")))
        except ValueError as error:
            raise refuse(str(error)) from None

    def table(self, pattern):
        """The TokenTable of a pattern. Takes seconds for a large vocabulary, the first time."""
        with self.lock:
            if pattern not in self.tables:
                if len(self.tables) == MOST_TABLES:
                    del self.tables[next(iter(self.tables))]
                self.tables[pattern] = TokenTable(self.automaton(pattern), self.pieces)
            table = self.tables[pattern] = self.tables.pop(pattern)
            return table

    def automaton(self, pattern):
        """The largest automaton for "json_object" that fits; else this pattern's, or Refused."""
        tries = [any_object(1), any_object(0)] if pattern == "json_object" else [pattern]
        try:
            for one in tries:
                found = compile_pattern(one)
                if len(found.table) * self.model.arch.V <= MOST_CELLS:
                    return found
        except PatternError as error:
            raise refuse(str(error)) from None
        raise refuse(f"{len(found.table):,} states for a vocabulary of {self.model.arch.V:,} are "
                     "too many; ask for less")

    def constrain(self, asked):
        """Put the constraint of an Asked into its request; Refused where max_tokens is too few."""
        request = asked.request
        stop = min(self.model.stops) if self.model.stops else None
        try:
            request.constraint = Constraint(self.table(asked.pattern), request.n,
                                            len(request.prompt), stop)
        except ValueError as error:
            raise refuse(str(error)) from None
        request.ends = () if stop is None else (stop,)
        request.options["adjust"].append(request.constraint)
