"""Day 41 · Regular expressions, a small subset, read into a tree over bytes.

    abc  é         itself, as UTF-8      .        any character but a newline
    [a-z_é]        one of these          [^"\\\\]   any character but these (ASCII) ones
    \\d \\w \\s       ASCII digit, word character, space    \\n \\t \\r \\x1f \\{  one character
    xy   x|y       first x, then y; x or y           (x) (?:x)   grouping
    x* x+ x?       any number, at least one, at most one      x{3} x{2,} x{2,5}   so many

The whole text must match, so there are no anchors. Left out: captures, back-references (which no
finite automaton can follow), look-around, lazy repeats, flags, ranges beyond ASCII.
"""

import string

MORE = range(0x80, 0xC0)                       # a byte that goes on with a character
LEADS = [                                      # well-formed UTF-8: no overlong forms, no surrogates
    (range(0xC2, 0xE0), [MORE]),
    ([0xE0], [range(0xA0, 0xC0), MORE]),
    ([*range(0xE1, 0xED), 0xEE, 0xEF], [MORE, MORE]),
    ([0xED], [range(0x80, 0xA0), MORE]),
    ([0xF0], [range(0x90, 0xC0), MORE, MORE]),
    (range(0xF1, 0xF4), [MORE, MORE, MORE]),
    ([0xF4], [range(0x80, 0x90), MORE, MORE])]
CLASSES = {"d": set(string.digits), "s": set(" \t\n\r\f\v"),
           "w": set(string.ascii_letters + string.digits + "_")}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
SPECIAL = set("\\.[]{}()*+?|^$")
DEPTH, COUNT = 100, 1000                       # most nested groups, most copies by {m,n}


class PatternError(ValueError):
    """The pattern is no regular expression of the subset; says where and why."""


def byte(values):
    """The tree of one byte out of `values`."""
    return "byte", frozenset(values)


def join(*parts):
    """The tree of one part after the other; of nothing, the empty text."""
    return "join", parts


def either(*parts):
    """The tree of any one of the parts."""
    return "either", parts


def repeat(part, low, high):
    """The tree of low … high copies; high None means any number from low on."""
    return "repeat", part, low, high


def characters(chosen, others=False):
    """The tree of one character out of `chosen`, or with `others` of any character beyond ASCII."""
    ways = [byte(map(ord, filter(str.isascii, chosen)))] if any(map(str.isascii, chosen)) else []
    ways += [join(*(byte([b]) for b in c.encode())) for c in sorted(chosen) if not c.isascii()]
    if others:
        for leads, rest in LEADS:
            ways.append(join(byte(leads), *map(byte, rest)))
    return ways[0] if len(ways) == 1 else either(*ways)


def parse(pattern):
    """A pattern, str -> its tree. Raises PatternError."""
    reader = Reader(pattern)
    tree = reader.choice(0)
    if reader.at < len(pattern):
        reader.fail("a ) that closes nothing")
    return tree


class Reader:
    """Recursive descent, one method a level: choice > sequence > repeated > atom.

    Each method reads its part of the pattern and returns that part's tree; depth: groups it is in.
    """

    def __init__(self, pattern):
        self.text, self.at = pattern, 0

    def fail(self, why):
        """Raise the PatternError that names the place and the reason."""
        raise PatternError(f"pattern {self.text!r} at character {self.at}: {why}")

    def peek(self):
        """The next character, or "" at the end."""
        return self.text[self.at:self.at + 1]

    def take(self):
        """Move over the next character and return it."""
        if self.at == len(self.text):
            self.fail("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def choice(self, depth):
        if depth > DEPTH:
            self.fail(f"groups nested deeper than {DEPTH}")
        ways = [self.sequence(depth)]
        while self.peek() == "|":
            self.take()
            ways.append(self.sequence(depth))
        return ways[0] if len(ways) == 1 else either(*ways)

    def sequence(self, depth):
        parts = []
        while self.peek() and self.peek() not in "|)":
            parts.append(self.repeated(depth))
        return parts[0] if len(parts) == 1 else join(*parts)

    def repeated(self, depth):
        part = self.atom(depth)
        if not self.peek() or self.peek() not in "*+?{":
            return part
        sign = self.take()
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self.bounds()
        if self.peek() and self.peek() in "*+?{":
            self.fail("a repeat of a repeat (or a lazy one): put the inner one into a group")
        return repeat(part, low, high)

    def bounds(self):
        """What stands between { and } as (low, high); high None without a limit."""
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at:max(end, self.at)].partition(",")
        if not (low.isdecimal() and low.isascii() and (high + "0").isdecimal() and high.isascii()):
            self.fail("after { come one or two numbers: {3}, {2,} or {2,5}; for itself write \\{")
        low, high = int(low), int(high) if high else None if comma else int(low)
        if max(low, high or 0) > COUNT or (high is not None and high < low):
            self.fail(f"copies must be counted upwards, to {COUNT} at most")
        self.at = end + 1
        return low, high

    def atom(self, depth):
        c = self.take()
        if c == "(":
            if self.text.startswith("?:", self.at):
                self.at += 2
            elif self.peek() == "?":
                self.fail("of (?…) only (?:…) is in the subset")
            tree = self.choice(depth + 1)
            if self.peek() != ")":
                self.fail("a group is not closed")
            self.take()
            return tree
        if c == "[":
            return self.char_class()
        if c == ".":
            return characters(set(map(chr, range(128))) - {"\n"}, others=True)
        if c == "\\":
            return characters(self.escape())
        if c in SPECIAL:
            self.fail(f"{c} has nothing to act on here; for itself write \\{c}. There are no "
                      "anchors, as the whole text must match")
        return characters({c})

    def escape(self):
        """What comes after a backslash, as a set of characters."""
        c = self.take()
        if c in CLASSES or c in CONTROLS:
            return CLASSES.get(c) or {CONTROLS[c]}
        if c == "x":
            digits = self.take() + self.take()
            if not set(digits) <= set(string.hexdigits) or int(digits, 16) > 0x7F:
                self.fail("\\x wants two hexadecimal digits, up to 7f")
            return {chr(int(digits, 16))}
        if c.isalnum():
            self.fail(f"\\{c} is not in the subset")
        return {c}

    def char_class(self):
        negated = self.peek() == "^"
        self.at += negated
        chosen = set()
        while self.peek() != "]":
            first = self.member()
            if self.peek() == "-" and self.text[self.at + 1:self.at + 2] != "]":
                self.take()
                first, last = self.one(first), self.one(self.member())
                if last < first:
                    self.fail("a range runs upwards")
                first = set(map(chr, range(ord(first), ord(last) + 1)))
            chosen |= first
        self.take()
        if not chosen or (negated and not "".join(chosen).isascii()):
            self.fail("a class needs members, and [^…] ASCII ones")
        return characters(set(map(chr, range(128))) - chosen if negated else chosen, negated)

    def member(self):
        """The next member of a class, as a set of characters."""
        c = self.take()
        return self.escape() if c == "\\" else {c}

    def one(self, chosen):
        """The only character of a set, which must be ASCII: an end of a range."""
        if len(chosen) != 1 or not min(chosen).isascii():
            self.fail("a range runs from one ASCII character to another")
        return min(chosen)
