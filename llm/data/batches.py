"""Day 35 · Batches: windows of T tokens and, one step later, the tokens they should predict.

Left out: borders between texts. A window may reach from one text into the next.
"""

import numpy as np


def random_windows(ids, B, T, rng):
    """Yield (inputs, targets), each (B, T) int32, for ever; every start is equally likely.

    ids: (N,) integers with N > T; only the rows of a batch are read, so they may lie in a file
    (np.memmap). targets[b, t] is the token after inputs[b, t].
    Raises ValueError if the text is too short, B or T below 1, or an id does not fit in int32.
    """
    ids = check(ids, B, T)
    offsets = np.arange(T + 1)
    while True:
        starts = rng.integers(0, len(ids) - T, size=B)
        rows = as_int32(ids[starts[:, None] + offsets])                    # (B, T + 1)
        yield rows[:, :-1].copy(), rows[:, 1:].copy()


def sliding_windows(ids, B, T, stride):
    """Yield (inputs, targets) that score each token of ids[1:] exactly once, in order.

    Both are (B, T) int32; the last batch may have fewer rows. Windows start `stride` apart; a
    target that the window before has scored already is −100. So every scored token but the first
    T has at least T − stride tokens before it. Raises ValueError as `random_windows` does, or for
    a stride outside 1 … T.
    """
    ids = check(ids, B, T)
    if not 1 <= stride <= T:
        raise ValueError(f"stride must be 1 … {T}, not {stride}")
    starts = list(range(0, len(ids) - T, stride))
    if starts[-1] + T < len(ids) - 1:
        starts.append(len(ids) - 1 - T)
    scored = 0                                          # targets ids[1 … scored] are done
    rows = []
    for start in starts:
        window = as_int32(ids[start:start + T + 1])
        targets = window[1:].copy()
        targets[:max(scored - start, 0)] = -100
        scored = start + T
        rows.append((window[:-1], targets))
        if len(rows) == B or start == starts[-1]:
            yield np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
            rows = []


def check(ids, B, T):
    """ids as an array, unread; ValueError where there is no batch of B windows of T in it."""
    ids = ids if isinstance(ids, np.ndarray) else np.asarray(ids)
    if B < 1 or T < 1:
        raise ValueError(f"a batch of {B} windows of {T} tokens: both must be at least 1")
    if len(ids) <= T:
        raise ValueError(f"a text of {len(ids)} tokens has no window of {T} and a next token: "
                         "use a longer text or a smaller T")
    return ids


def as_int32(ids):
    """The same ids in int32; ValueError where one does not fit, instead of another id."""
    small = ids.astype(np.int32)
    if ids.dtype.kind not in "iu" or (small != ids).any():
        raise ValueError(f"ids of type {ids.dtype} that are not whole numbers below 2³¹: "
                         "was the file written in another format?")
    return small
