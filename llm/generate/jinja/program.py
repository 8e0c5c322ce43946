"""Day 52 · Programs of chat templates: text, {{ output }}, and the tags if, for and set.

A model's file brings its template as such a program. It comes from a stranger, so nothing here
reaches Python, and a program that is too long, too deep or never done is stopped.
Left out: macros, namespaces, includes, and loops over anything but lists.
Source: Jinja documentation, "Template Designer Documentation", "Whitespace Control"; chat templates
are run with trim_blocks and lstrip_blocks.
"""

import re

from llm.generate.jinja.expressions import Expressions
from llm.generate.jinja.values import TemplateError, Text, as_text, own, truth

TAGS = re.compile(r"(\{%-?.*?-?%\}|\{\{-?.*?-?\}\}|\{#.*?#\})", re.S)
LONGEST, MOST_STEPS = 1 << 16, 100_000    # characters of a program; statements that it may run
DEEPEST = 40                              # levels of tags in tags
STEPS = object()                          # where a scope counts them


def compile_program(source):
    """A function (values: dict) -> Text from the program's source. Raises TemplateError."""
    if len(source) > LONGEST:
        raise TemplateError(f"the chat template has {len(source):,} characters; at most "
                            f"{LONGEST:,} are read")
    try:
        body = Parser(source).block(())
    except RecursionError:
        raise TemplateError("the chat template has expressions nested too deeply") from None

    def render(values):
        out = []
        run(body, {**values, STEPS: [0]}, out)
        return Text(tuple(part for text in out for part in text.parts))
    return render


def run(body, scope, out):
    """Run statements (scope, out) in order; `out` gathers Texts."""
    for statement in body:
        scope[STEPS][0] += 1
        if scope[STEPS][0] > MOST_STEPS:
            raise TemplateError(f"the chat template is not done after {MOST_STEPS:,} steps")
        statement(scope, out)


def cut(source):
    """A program in pieces ("text", str), ("%", tag) and ("{", expression).

    A newline right behind a block tag goes, and so do blanks before one that begins its line; a
    minus sign inside a tag takes all white space on its side.
    """
    found, parts = [], ["", *TAGS.split(source.removesuffix("\n")), ""]
    for before, text, after in zip(parts[::2], parts[1::2], parts[2::2]):
        line_begins = not before
        if before.startswith(("{%", "{#")) and text.startswith("\n"):
            text, line_begins = text[1:], True
        if after.startswith(("{%", "{#")):
            line = text[text.rfind("\n") + 1:]
            if ("\n" in text or line_begins) and not line.strip(" \t"):
                text = text[:len(text) - len(line)]
        text = text.lstrip() if before[-3:-2] == "-" else text
        text = text.rstrip() if after[2:3] == "-" else text
        found.append(("text", text))
        if after and after[1] != "#":
            found.append((after[1], after[2:-2].removeprefix("-").removesuffix("-")))
    return found


class Parser:
    """Turns pieces into lists of statements, each a function (scope, out).

    text, output and the three tags return one statement each; `block` finds a tag by its name.
    """

    def __init__(self, source):
        self.pieces, self.depth, self.end = cut(source)[::-1], 0, None

    def block(self, ends):
        """Statements up to a tag named in `ends`; the tag's name and rest stay in self.end."""
        body, self.depth = [], self.depth + 1
        if self.depth > DEEPEST:
            raise TemplateError(f"the chat template has tags more than {DEEPEST} levels deep")
        while self.pieces:
            kind, content = self.pieces.pop()
            if kind == "text":
                body.append(self.text(content))
                continue
            reader = Expressions(content)
            if kind == "{":
                body.append(self.output(reader))
                continue
            word = reader.next()
            if word in ends:
                self.end, self.depth = (word, reader), self.depth - 1
                return body
            if word not in ("for", "if", "set"):
                reader.fail(f"has the tag {word!r}")
            body.append(getattr(self, word + "_tag")(reader))
        if ends:
            raise TemplateError(f"the chat template lacks {ends[-1]!r}; is it cut short?")
        return body

    def text(self, content):
        text = own(content)
        return lambda scope, out: out.append(text)

    def output(self, reader):
        value = reader.whole()
        return lambda scope, out: out.append(as_text(value(scope)))

    def if_tag(self, reader):
        test, body, other = reader.whole(), self.block(("elif", "else", "endif")), []
        word, reader = self.end
        if word == "elif":
            other = [self.if_tag(reader)]
        elif word == "else":
            other = self.block(("endif",))
        return lambda scope, out: run(body if truth(test(scope)) else other, scope, out)

    def for_tag(self, reader):
        name = reader.next()
        reader.expect("in")
        items, body = reader.whole(), self.block(("endfor",))

        def loop(scope, out):
            values = items(scope)
            if not isinstance(values, list):
                raise TemplateError("the chat template loops over what is no list")
            for i, value in enumerate(values):
                about = {"first": i == 0, "last": i == len(values) - 1, "index0": i,
                         "index": i + 1, "length": len(values)}
                run(body, {**scope, name: value, "loop": about}, out)   # `set` ends with the round
        return loop

    def set_tag(self, reader):
        name = reader.next()
        reader.expect("=")
        value = reader.whole()
        return lambda scope, out: scope.__setitem__(name, value(scope))
