"""Day 24 · Exercises: a merge without a loop, and merges recovered from their pieces."""

import numpy as np

from llm.tokens.bpe import BPE, merge


def merge_array(ids, pair, new):
    """What `merge` does, over an array and without a Python loop over its positions.

    ids (T,) int32, pair (a, b), new an id; returns (T',) int32. Overlapping pairs merge from the
    left, as ever::

        merge_array(np.array([1, 1, 1, 2, 1, 1]), (1, 1), 9).tolist()   # [9, 1, 2, 9]
    """
    raise NotImplementedError


def merges_of(pieces):
    """Recover the merges from the pieces alone, which is all that some vocabulary files hold.

    pieces: list of bytes, id i is pieces[i], the first 256 are the single bytes in order. Returns
    the list of pairs [(a, b), …] such that BPE(pairs).pieces == pieces::

        merges_of([bytes([i]) for i in range(256)] + [b"aa", b"ab", b"aaab"])
        # [(97, 97), (97, 98), (256, 257)]
    """
    raise NotImplementedError


def check_merge_array(f):
    """The hand example, runs of one letter, edges, and the loop as oracle."""
    assert f(np.array([1, 1, 1, 2, 1, 1]), (1, 1), 9).tolist() == [9, 1, 2, 9]
    assert f(np.array([], np.int32), (1, 1), 9).tolist() == []
    assert f(np.array([1]), (1, 1), 9).tolist() == [1]
    rng = np.random.default_rng(0)
    for _ in range(300):
        ids = rng.integers(0, 3, rng.integers(0, 30)).astype(np.int32)
        for pair in ((0, 0), (0, 1), (2, 1)):
            before = ids.copy()
            assert f(ids, pair, 7).tolist() == merge(ids.tolist(), pair, 7), (before, pair)
            assert (ids == before).all(), "the argument was changed"
    return "merging an array equals merging a list"


def check_merges_of(f):
    """The hand example and trained vocabularies."""
    base = [bytes([i]) for i in range(256)]
    assert f(base) == []
    assert f(base + [b"aa", b"ab", b"aaab"]) == [(97, 97), (97, 98), (256, 257)]
    rng = np.random.default_rng(1)
    for letters in ("ab", "abc ", "lo we rst"):
        text = "".join(letters[i] for i in rng.integers(0, len(letters), 400))
        trained = BPE.train(text, 300)
        assert [tuple(pair) for pair in f(trained.pieces)] == trained.merges
    return "the merges are back"
