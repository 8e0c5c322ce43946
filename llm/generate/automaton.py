"""Day 41 · From a regular expression to a table: Thompson's NFA, then a DFA by subset construction.

The alphabet is the 256 bytes, so tokens that hold part of a character need no special care. Left
out: making the DFA as small as possible (an exercise), and languages with unbounded nesting.
"""

from dataclasses import dataclass

import numpy as np

from llm.generate.pattern import PatternError, parse

STATES = 20_000                # most states of either automaton, lest a pattern fills the memory


@dataclass(frozen=True)
class Automaton:
    """A DFA: in state s, byte b leads to table[s, b], or nowhere (−1). State 0 is the start.

    table (S, 256) int32, accepts (S,) bool. From every state some accepting one can be reached.
    """

    table: np.ndarray
    accepts: np.ndarray

    def walk(self, data, state=0):
        """The state after the bytes `data`, −1 where no accepted text begins like this."""
        for b in data:
            if state < 0:
                break
            state = int(self.table[state, b])
        return state

    def matches(self, data):
        """Whether exactly these bytes are accepted."""
        state = self.walk(data)
        return state >= 0 and bool(self.accepts[state])


def compile_pattern(pattern):
    """A pattern of `pattern.py`'s subset -> its Automaton.

    An NFA of n states costs O(n); the DFA has at most 2ⁿ states, mostly about n. Raises
    PatternError on what is not in the subset, and beyond 20,000 states.
    Source: Thompson (1968), "Regular Expression Search Algorithm"; Aho, Lam, Sethi and Ullman
    (2006), "Compilers", algorithms 3.20 (subsets) and 3.23 (fragments).
    """
    nfa = NFA()
    start, end = nfa.build(parse(pattern))
    return nfa.determinise(start, end)


class NFA:
    """States with at most one byte move, or any number of moves that read nothing."""

    def __init__(self):
        self.moves = []        # for each state None or (frozenset of bytes, target)
        self.empty = []        # for each state the targets reached without reading

    def state(self):
        """Add a state without moves -> its number. PatternError beyond STATES of them."""
        if len(self.moves) == STATES:
            raise PatternError(f"the pattern needs more than {STATES} states; repeat less")
        self.moves.append(None)
        self.empty.append([])
        return len(self.moves) - 1

    def build(self, tree):
        """Add a fragment for the tree: (start, end), to be entered and left only there."""
        kind, *parts = tree
        if kind == "repeat":
            return self.copies(*parts)
        start, end = self.state(), self.state()
        if kind == "byte":
            self.moves[start] = parts[0], end
        elif kind == "either":
            for part in parts[0]:
                first, last = self.build(part)
                self.empty[start].append(first)
                self.empty[last].append(end)
        else:                                              # join: one after the other
            at = start
            for part in parts[0]:
                first, last = self.build(part)
                self.empty[at].append(first)
                at = last
            self.empty[at].append(end)
        return start, end

    def copies(self, part, low, high):
        """`low` copies that must be, then optional ones, or a loop where there is no limit."""
        start = at = self.state()
        end = self.state()
        for i in range(low if high is None else high):
            if i >= low:
                self.empty[at].append(end)                 # the rest is optional
            first, last = self.build(part)
            self.empty[at].append(first)
            at = last
        if high is None:
            loop, last = self.build(part)
            hub = self.state()                             # between two copies
            self.empty[at].append(hub)
            self.empty[hub] += [loop, end]
            self.empty[last].append(hub)
        else:
            self.empty[at].append(end)
        return start, end

    def closure(self, states):
        """All states reached from these without reading."""
        found, todo = set(states), list(states)
        while todo:
            for target in self.empty[todo.pop()]:
                if target not in found:
                    found.add(target)
                    todo.append(target)
        return frozenset(found)

    def determinise(self, start, end):
        """Subset construction: a DFA state is the set of states where the NFA may be."""
        classes = self.byte_classes()                      # bytes that no move tells apart
        sets = {self.closure([start]): 0}
        todo, table = list(sets), []
        for subset in todo:                                # grows while it runs
            row = np.full(256, -1, dtype=np.int32)
            moves = [self.moves[s] for s in subset if self.moves[s]]
            for members in classes:
                targets = [target for chosen, target in moves if members[0] in chosen]
                if targets:
                    reached = self.closure(targets)
                    if reached not in sets:
                        sets[reached] = len(sets)
                        todo.append(reached)
                    row[members] = sets[reached]
            table.append(row)
            if len(sets) > STATES:
                raise PatternError(f"the pattern needs more than {STATES} states; repeat less")
        return Automaton(np.stack(table), np.array([end in subset for subset in todo]))

    def byte_classes(self):
        """Lists of bytes such that each move reads all bytes of a list, or none of it."""
        groups = {}
        alphabets = list({move[0] for move in self.moves if move})
        for b in range(256):
            groups.setdefault(tuple(b in chosen for chosen in alphabets), []).append(b)
        return list(groups.values())
