"""Day 07 · A probabilistic grammar with a memory, and the exact entropy of the texts it writes.

A rule is a weight, a template and what to remember: `(3, "a {toy} for <Name>.", {"toy": "kite"})`.
Braces repeat what is remembered, angle brackets expand another symbol. A symbol written with a
capital inherits the memory; a <small> one stands for plain words and inherits nothing. So a node of
the derivation is a pair (symbol, memory), and the grammar over nodes is context-free.

Which rule was chosen must be visible at its first letters: the alternatives of a node begin with
literal text, and none of these beginnings starts with another one. Then a text has at most one
derivation (proof in the note), so the entropy of the texts is that of the choices. `expand` refuses
all else.
Left out: recursion, which would need a linear system in place of dynamic programming.
"""

import bisect
import itertools
import math
import re


class Grammar:
    """rules: symbol -> list of (weight, template[, what to remember]); begins at `start`."""

    def __init__(self, rules, start="Story"):
        self.rules = rules
        self.start = (start, ())
        self.expanded = {}  # node -> its alternatives, formatted once
        self.known = {}     # node -> (entropy, mean length)

    def expand(self, node):
        """Return (cumulative, choices, beginnings) of a node; a choice is (p, parts).

        Parts are literal strings and further nodes. Raises ValueError where a symbol is unknown,
        weights aren't positive, or one beginning starts with another: two derivations might meet.
        """
        if node not in self.expanded:
            symbol, memory = node
            if symbol not in self.rules:
                raise ValueError(f"no rule for <{symbol}>; known: {', '.join(self.rules)}")
            rules = self.rules[symbol]
            if not rules or not all(weight > 0 for weight, *_ in rules):
                raise ValueError(f"<{symbol}> needs at least one rule, and positive weights")
            total = sum(weight for weight, *_ in rules)
            choices = [(weight / total, parts(template, dict(memory), *remember))
                       for weight, template, *remember in rules]
            beginnings = [first_literal(symbol, pieces, choices) for _, pieces in choices]
            refuse_prefixes(symbol, beginnings)
            cumulative = list(itertools.accumulate(p for p, _ in choices))
            self.expanded[node] = cumulative, choices, beginnings
        return self.expanded[node]

    def sample(self, rng):
        """Draw one text and return it with its −log P in nats. rng: np.random.Generator."""
        text, surprise, todo = [], 0.0, [self.start]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                text.append(item)
                continue
            cumulative, choices, _ = self.expand(item)
            index = bisect.bisect_right(cumulative, rng.random() * cumulative[-1])
            p, pieces = choices[index]
            surprise -= math.log(p)
            todo.extend(reversed(pieces))
        return "".join(text), surprise

    def log_probability(self, text):
        """Return log P(text) in nats by reading it from left to right; −∞ if it can't occur."""
        at, total, todo = 0, 0.0, [self.start]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                if not text.startswith(item, at):
                    return -math.inf
                at += len(item)
                continue
            _, choices, beginnings = self.expand(item)
            fits = [choice for choice, begin in zip(choices, beginnings)
                    if text.startswith(begin, at)]
            if not fits:
                return -math.inf
            (p, pieces), = fits  # one at most, since no beginning starts with another
            total += math.log(p)
            todo.extend(reversed(pieces))
        return total if at == len(text) else -math.inf

    def moments(self, node=None):
        """Return (entropy in nats, expected characters) of the texts under a node, exactly.

        H(node) = Σ p (−log p + Σ H(children)), and the same for lengths; each node once.
        Raises ValueError if a node can contain itself.
        """
        node = node or self.start
        if node in self.known:
            if self.known[node] is None:
                raise ValueError(f"<{node[0]}> contains itself; this grammar must not be recursive")
            return self.known[node]
        self.known[node] = None  # being worked on
        entropy = length = 0.0
        for p, pieces in self.expand(node)[1]:
            entropy -= p * math.log(p)
            for piece in pieces:
                h, n = (0.0, len(piece)) if isinstance(piece, str) else self.moments(piece)
                entropy += p * h
                length += p * n
        self.known[node] = entropy, length
        return self.known[node]

    def entropy(self):
        """Return H = E[−log P(text)] in nats per text."""
        return self.moments()[0]

    def expected_length(self):
        """Return E[len(text)] in characters."""
        return self.moments()[1]

    def entropy_per_character(self):
        """Return E[−log P] / E[len] in nats: the lowest loss any model of endless text can have."""
        return self.entropy() / self.expected_length()


def parts(template, memory, remember=()):
    """Fill in a template and split it into literal strings and (symbol, memory) nodes."""
    memory |= dict(remember)
    frozen = tuple(memory.items())
    try:
        filled = template.format(**memory)
    except KeyError as name:
        raise ValueError(f"{template!r} repeats {name}, which no rule above it remembers") from None
    pieces = re.split(r"<([^<>]+)>", filled)           # literal, symbol, literal, …
    return [(piece, frozen if piece[0].isupper() else ()) if i % 2 else piece
            for i, piece in enumerate(pieces) if i % 2 or piece]


def first_literal(symbol, pieces, choices):
    """Return the literal a choice begins with; only a choice without rivals may do without."""
    if len(choices) == 1:
        return ""
    if not pieces or not isinstance(pieces[0], str):
        raise ValueError(f"a rule of <{symbol}> must begin with literal text, to be told apart")
    return pieces[0]


def refuse_prefixes(symbol, beginnings):
    """ValueError if one beginning starts with another.

    If any two do, then in sorted order two neighbours do, so only neighbours are compared.
    """
    ordered = sorted(beginnings)
    for short, long in itertools.pairwise(ordered):
        if long.startswith(short):
            raise ValueError(f"<{symbol}> is ambiguous: {long!r} starts with {short!r}")
