"""Day 41 · Decoding that cannot leave a pattern: a mask over tokens from an automaton over bytes.

A token is allowed if its bytes can be walked from the present state and if, after it, the tokens
left suffice to reach an end. So every output matches, also one that hits the limit. Left out:
compressed tables for large vocabularies, and drawing from the exact conditional distribution.
"""

from dataclasses import dataclass

import numpy as np

from llm.generate.truncate import checked

NEVER = 1 << 30                # tokens needed where no number suffices


class TokenTable:
    """An automaton seen through a vocabulary: made once, used by any number of requests.

    next (S, V) int32: the state after token v in state s, −1 where its bytes lead nowhere.
    needs (S,) int64: the fewest tokens from s to an accepting state.
    """

    def __init__(self, automaton, pieces):
        """pieces: the bytes of each id, b"" for those never to be used (special tokens).

        Takes O(S·V) per byte of the longest piece and 4·S·V bytes. Raises ValueError if no
        sequence of these pieces spells an accepted text.
        Source: Willard and Louf (2023), "Efficient Guided Generation for Large Language Models",
        section 3; there over characters, here over bytes, and with `needs`.
        """
        self.accepts = automaton.accepts
        self.next = walk_all(automaton.table, pieces)
        self.needs = fewest_tokens(self.next, self.accepts)
        if self.needs[0] == NEVER:
            raise ValueError(f"none of the texts of this pattern can be spelled with these "
                             f"{len(pieces)} tokens: some bytes are missing")


def walk_all(table, pieces):
    """Every token walked from every state, a byte at a time for all of them: (S, V) int32."""
    S, V = len(table), len(pieces)
    lengths = np.array([len(piece) for piece in pieces])
    longest = int(lengths.max(initial=0))
    data = np.frombuffer(b"".join(piece.ljust(longest, b"\0") for piece in pieces), np.uint8)
    data = data.reshape(V, longest)
    table = np.vstack([table, np.full((1, 256), -1, table.dtype)])    # row −1: nowhere stays so
    states = np.repeat(np.arange(S, dtype=np.int32)[:, None], V, axis=1)
    for j in range(longest):
        longer = np.flatnonzero(lengths > j)
        states[:, longer] = table[states[:, longer], data[longer, j]]
    states[:, lengths == 0] = -1                                      # no progress, no token
    return states


def fewest_tokens(following, accepts):
    """(S,) int64: how far each state is from acceptance, by a breadth-first search backwards."""
    before = [[] for _ in accepts]
    for s, row in enumerate(following):
        for target in np.unique(row[row >= 0]):
            before[target].append(s)
    needs = np.where(accepts, 0, NEVER)
    todo = np.flatnonzero(accepts).tolist()
    for state in todo:                                                # grows while it runs
        for s in before[state]:
            if needs[s] == NEVER:
                needs[s] = needs[state] + 1
                todo.append(s)
    return needs


@dataclass(frozen=True)
class Constraint:
    """A function (logits (V,), so_far) -> logits with −∞ at every token that is not allowed.

    The output is so_far[start:], at most `limit` tokens, the stop token among them. `stop` is
    allowed exactly where the text may end; without one, the output goes on for as long as it can
    (`done`). It keeps no state between calls, so beams may branch and drafts be withdrawn.
    Raises ValueError where the limit is too short for any text, where the stop token is none of
    the vocabulary or could be part of a text, where so_far has left the pattern, and where the
    output is complete already.
    """

    tokens: TokenTable
    limit: int
    start: int = 0
    stop: int | None = None

    def __post_init__(self):
        V = self.tokens.next.shape[1]
        if self.stop is not None and (not 0 <= self.stop < V
                                      or (self.tokens.next[:, self.stop] >= 0).any()):
            raise ValueError(f"stop token {self.stop} must be one of 0 … {V - 1} that no text of "
                             'this pattern holds; give it b"" as its piece')
        shortest = int(self.tokens.needs[0]) + (self.stop is not None)
        if self.limit < shortest or self.start < 0:
            raise ValueError(f"limit {self.limit} from start {self.start}: the shortest text of "
                             f"this pattern takes {shortest} tokens, the stop token among them; "
                             "raise the limit")

    def __call__(self, logits, so_far):
        z = checked(logits)
        allowed = self.allowed(so_far)
        if allowed.shape != z.shape:
            raise ValueError(f"logits {z.shape} of another vocabulary than the constraint's "
                             f"{allowed.shape}")
        if not allowed.any():
            raise ValueError("the output is complete: ask done(so_far) before each step")
        return np.where(allowed, z, -np.inf).astype(z.dtype)

    def allowed(self, so_far):
        """(V,) bool; all False where the output is complete."""
        state, left = self.state(so_far)
        if state is None or left == 0:
            return np.zeros(self.tokens.next.shape[1], dtype=bool)
        following = self.tokens.next[state]                           # (V,)
        reserve = left - 1 - (self.stop is not None)                  # after this token
        allowed = (following >= 0) & (self.tokens.needs[following] <= reserve)
        if self.stop is not None:
            allowed[self.stop] = self.tokens.accepts[state]
        return allowed

    def done(self, so_far):
        """Whether the output is complete: stopped, at its limit, or with no way to go on."""
        return not self.allowed(so_far).any()

    def state(self, so_far):
        """(state, tokens left); state None after the stop token."""
        output, state = so_far[self.start:], 0
        for n, i in enumerate(output):
            if i == self.stop and self.tokens.accepts[state] and n == len(output) - 1:
                return None, 0
            state = int(self.tokens.next[state, i]) if 0 <= i < self.tokens.next.shape[1] else -1
            if state < 0:
                raise ValueError(f"token {i}, number {n} of the output, has left the pattern; does "
                                 f"the output begin at {self.start}?")
        return state, max(self.limit - len(output), 0)
