"""Day 52 · Expressions of chat templates, read by recursive descent into functions.

Loosest first: x if c else y · or · and · not · == != < > in, is defined · + ~ · % · |filter ·
.key [key] [n:] .strip(). Each method reads its part of the tokens and returns scope -> value.
Left out: calls, tests and filters but those here, arithmetic but + and %; each is refused by name.
Source: Jinja documentation, "Template Designer Documentation", section "Expressions".
"""

import re

from llm.generate.jinja.values import (
    TemplateError,
    add,
    as_text,
    complain,
    contains,
    item,
    number,
    own,
    plain,
    rest,
    truth,
)

TOKEN = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\d+|[A-Za-z_]\w*"""
                   r"""|==|!=|[-+~%|.,:()\[\]<>=])""", re.S)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
CONSTANTS = {"true": True, "false": False, "none": None, "True": True, "False": False,
             "None": None}


class Expressions:
    """Reads one list of tokens, the last first."""

    def __init__(self, content):
        self.tokens, at = [], 0
        while content[at:].strip():
            match = TOKEN.match(content, at)
            if not match:
                self.fail(f"has {content[at:].strip()[:20]!r}")
            self.tokens.append(match[1])
            at = match.end()
        self.tokens.reverse()

    def fail(self, what):
        """Raise the TemplateError that says what is not supported."""
        raise TemplateError(f"the chat template {what}, which is not supported here")

    def next(self):
        """Take the next token; "" at the end."""
        return self.tokens.pop() if self.tokens else ""

    def take(self, token):
        """Take the next token if it is this one."""
        return bool(self.tokens) and self.tokens[-1] == token and bool(self.tokens.pop())

    def expect(self, token):
        """Take this token, or fail."""
        if not self.take(token):
            self.fail(f"has {self.next()!r} where {token!r} should be")

    def chain(self, part, operators):
        """part (operator part)*, from left to right; operators: {token: (a, b, scope) -> value}."""
        left = part()
        while self.tokens and self.tokens[-1] in operators:
            f, a, b = operators[self.next()], left, part()
            left = lambda scope, f=f, a=a, b=b: f(a, b, scope)
        return left

    def whole(self):
        """All tokens that are left, as one expression."""
        value = self.choice()
        if self.tokens:
            self.fail(f"has {self.next()!r} where an expression ends")
        return value

    def choice(self):
        value = self.any_of()
        if not self.take("if"):
            return value
        test = self.any_of()
        other = self.choice() if self.take("else") else lambda scope: None
        return lambda scope: (value if truth(test(scope)) else other)(scope)

    def any_of(self):
        return self.chain(self.all_of, {"or": lambda a, b, s: x if truth(x := a(s)) else b(s)})

    def all_of(self):
        return self.chain(self.negated, {"and": lambda a, b, s: b(s) if truth(x := a(s)) else x})

    def negated(self):
        if not self.take("not"):
            return self.compared()
        value = self.negated()
        return lambda scope: not truth(value(scope))

    def compared(self):
        left = self.chain(self.joined, {
            "==": lambda a, b, s: plain(a(s)) == plain(b(s)),
            "!=": lambda a, b, s: plain(a(s)) != plain(b(s)),
            "<": lambda a, b, s: number(a(s)) < number(b(s)),
            ">": lambda a, b, s: number(a(s)) > number(b(s)),
            "in": lambda a, b, s: contains(a(s), b(s))})
        if not self.take("is"):
            return left
        wanted, test = not self.take("not"), self.next()
        if test not in ("defined", "none"):
            self.fail(f"has the test {test!r}")
        return lambda scope: ((left(scope) is None) == (test == "none")) == wanted

    def joined(self):
        join = lambda a, b, s: add(a(s), b(s))
        return self.chain(self.divided, {"+": join, "~": join})

    def divided(self):
        return self.chain(self.filtered, {"%": lambda a, b, s: number(a(s)) % number(b(s))})

    def filtered(self):
        value = self.postfix()
        while self.take("|"):
            name = self.next()
            if name != "trim":
                self.fail(f"has the filter {name!r}")
            value = lambda s, v=value: as_text(v(s)).strip()
        return value

    def postfix(self):
        value = self.atom()
        while True:
            if self.take("."):
                name = self.next()
                if name == "strip" and self.take("("):
                    self.expect(")")
                    value = lambda s, v=value: as_text(v(s)).strip()
                else:
                    value = lambda s, v=value, k=name: item(v(s), k)
            elif self.take("["):
                key = self.choice()
                if self.take(":"):
                    value = lambda s, v=value, k=key: rest(v(s), k(s))
                else:
                    value = lambda s, v=value, k=key: item(v(s), plain(k(s)))
                self.expect("]")
            else:
                return value

    def atom(self):
        token = self.next()
        if token == "(":
            value = self.choice()
            self.expect(")")
            return value
        if token == "-":
            value = self.atom()
            return lambda scope: -number(value(scope))
        if token[:1] in ("'", '"'):
            text = re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), token[1:-1], flags=re.S)
            return lambda scope: own(text)
        if token.isdigit():
            return lambda scope: int(token[:9])
        if token in CONSTANTS:
            return lambda scope: CONSTANTS[token]
        if token == "raise_exception" and self.take("("):
            said = self.choice()
            self.expect(")")
            return lambda scope: complain(said(scope))
        if not token.isidentifier():
            self.fail(f"has {token!r} where a value should be")
        return lambda scope: scope.get(token)
