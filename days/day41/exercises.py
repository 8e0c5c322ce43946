"""Day 41 · Exercises to build; `python -m days check 41` grades them."""

import itertools
import math

import numpy as np

from llm.generate.automaton import Automaton, compile_pattern


def no_repeat(logits, so_far, n):
    """Logits (V,) with −∞ at each token that would complete an n-gram that so_far has already.

    so_far: a list of ids. A token v is forbidden if the last n − 1 ids followed by v occur
    somewhere in so_far. n = 1 forbids every id that was written. Fewer than n ids forbid nothing.
    Returns a new array of the same dtype. After 1 2 3 1 2 with n = 3, only 3 is forbidden::

        no_repeat(np.zeros(5), [1, 2, 3, 1, 2], 3)      # [0, 0, 0, -inf, 0]
    """
    raise NotImplementedError


def minimise(automaton):
    """The smallest Automaton that accepts the same texts; state 0 is its start.

    Two states may be merged if no text tells them apart: both accept or neither does, and each
    byte leads to states that may be merged again. Every state of the input can be reached from the
    start. Example: `compile_pattern("ab|cb")` has 5 states, and 3 are enough.
    """
    raise NotImplementedError


def check_no_repeat(f):
    """The example, the edges, and random texts against a search through all n-grams."""
    z = np.zeros(5)
    assert f(z, [1, 2, 3, 1, 2], 3).tolist() == [0, 0, 0, -math.inf, 0]
    assert (z == 0).all(), "it changed its input"
    assert f(z.astype(np.float32), [1], 2).dtype == np.float32, "the dtype is another"
    for so_far, n in (([], 1), ([], 3), ([1], 2), ([1, 2], 3)):
        assert np.isfinite(f(z, so_far, n)).all(), f"{so_far} holds no {n}-gram"
    assert f(z, [0, 3, 3], 1).tolist() == [-math.inf, 0, 0, -math.inf, 0]
    assert f(z, [3, 3], 2).tolist() == [0, 0, 0, -math.inf, 0], "3 3 occurs already"
    rng = np.random.default_rng(0)
    for _ in range(200):
        so_far, n = rng.integers(0, 3, size=rng.integers(0, 9)).tolist(), int(rng.integers(1, 4))
        grams = {tuple(so_far[i:i + n]) for i in range(len(so_far) - n + 1)}
        tail = so_far[len(so_far) - n + 1:]
        for v, kept in enumerate(np.isfinite(f(np.zeros(3), so_far, n))):
            complete = len(tail) == n - 1 and (*tail, v) in grams
            assert kept != complete, (so_far, n, v)


def check_minimise(f):
    """Sizes that are known, the same language, and no two states alike."""
    for pattern, size in (("ab|cb", 3), ("a*", 1), ("(a|b)*abb", 4), ("", 1), ("(ab|ac|ad)x", 4),
                          (r"\d{3}", 4), ("(a|b)(a|b)", 3), (".", 9)):
        before = compile_pattern(pattern)
        after = f(before)
        assert isinstance(after, Automaton) and after.table.shape == (len(after.accepts), 256)
        assert len(after.table) == size, f"{pattern!r}: {len(after.table)} states, wanted {size}"
        for n in range(5):
            for text in itertools.product(b"abcdx1", repeat=n):
                assert after.matches(bytes(text)) == before.matches(bytes(text)), (pattern, text)
        for text in ("é", "€", "😀", "\n", "12", "123"):
            assert after.matches(text.encode()) == before.matches(text.encode()), (pattern, text)
