"""Day 53 · Your own examples: a file with one JSON object a line, checked line by line.

    instruction   {"instruction": "…", "input": "…", "output": "…"}      input may be missing
    chat          {"messages": [{"role": "user", "content": "…"}, …]}
    preference    {"prompt": "…", "chosen": "…", "rejected": "…"}        for later days

Every error names the file and the line. Left out: compressed files, and CSV.
"""

import json
from pathlib import Path
from typing import NamedTuple

from llm.data.download import TextError
from llm.generate.template import Message
from llm.tune.chat import check_order

FIELDS = {"instruction": ("instruction", "output"), "chat": ("messages",),
          "preference": ("prompt", "chosen", "rejected")}


class Preference(NamedTuple):
    """Two answers to one prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str


def read_jsonl(path, kind=None):
    """[value, …]: messages for "instruction" and "chat", a Preference for "preference".

    kind: None takes what the first line is. Raises TextError, one line that says where and what.
    """
    return [value for _, value in numbered(path, kind)]


def numbered(path, kind=None):
    """[(line number, value), …] as `read_jsonl`; empty lines count, and are passed over."""
    if kind is not None and kind not in FIELDS:
        raise ValueError(f"kind {kind!r}: wanted one of {', '.join(FIELDS)}")
    try:
        lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}. Give the path of a file with one "
                        "JSON object a line.") from None
    found = []
    for n, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line.decode())
                kind = kind or kind_of(record)
                found.append((n, READ[kind](fields(record, kind))))
            except json.JSONDecodeError as error:
                raise TextError(f"{path}, line {n}: not JSON at character {error.colno} "
                                f"({error.msg}); each line is one object") from None
            except UnicodeDecodeError:
                raise TextError(f"{path}, line {n}: not UTF-8; save the file as UTF-8") from None
            except RecursionError:
                raise TextError(f"{path}, line {n}: nested too deep") from None
            except ValueError as error:
                raise TextError(f"{path}, line {n}: {error}") from None
    if not found:
        raise TextError(f"{path} has no examples: write one JSON object a line, such as "
                        '{"instruction": "Say hello.", "output": "Hello!"}')
    return found


def kind_of(record):
    """The kind whose fields a line has; ValueError if none."""
    for kind, names in FIELDS.items():
        if isinstance(record, dict) and all(name in record for name in names):
            return kind
    wanted = "; or ".join(" and ".join(map(repr, names)) for names in FIELDS.values())
    raise ValueError(f"no example of a known kind: wanted an object with {wanted}")


def fields(record, kind):
    """The record, which has the fields of its kind."""
    if not isinstance(record, dict):
        raise ValueError(f"a JSON {type(record).__name__} where an object is wanted")
    for name in FIELDS[kind]:
        if name not in record:
            raise ValueError(f"no field {name!r}: a line of kind {kind!r} has "
                             f"{', '.join(map(repr, FIELDS[kind]))}")
    return record


def text(record, name, empty=False):
    """A field that is a str, not blank unless `empty`, and can be written as UTF-8."""
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {value!r:.40}, not a string")
    if not value.strip() and not empty:
        raise ValueError(f"{name!r} is empty: there is nothing to learn from it")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{name!r} holds half of a surrogate pair, which is no character")
    return value


def read_instruction(record):
    """instruction, then a line with the input if there is one, and output -> two messages."""
    more = text(record, "input", empty=True) if record.get("input") is not None else ""
    asked = text(record, "instruction") + ("\n" + more if more else "")
    return [Message("user", asked), Message("assistant", text(record, "output"))]


def read_chat(record):
    """messages -> [Message, …], in turn, the last one the assistant's."""
    messages = record["messages"]
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ValueError('"messages" is no list of objects with "role" and "content"')
    for i, message in enumerate(messages):
        for name in ("role", "content"):
            if name not in message:
                raise ValueError(f"message {i} has no {name!r}")
    made = [Message(text(m, "role"), text(m, "content")) for m in messages]
    check_order(made, "assistant")
    return made


def read_preference(record):
    """prompt, chosen and rejected -> Preference."""
    return Preference(*(text(record, name) for name in FIELDS["preference"]))


READ = {"instruction": read_instruction, "chat": read_chat, "preference": read_preference}
