"""Day 35 · Batches: windows of T tokens and, one step later, the tokens they should predict."""

import numpy as np


def random_windows(ids, B, T, rng):
    """Yield (inputs, targets), each (B, T) int32, for ever; every start is equally likely.

    ids: (N,) integers with N > T. targets[b, t] is the token after inputs[b, t].
    Raises ValueError if the text is too short.
    """
    check_length(ids, T)
    offsets = np.arange(T + 1)
    while True:
        starts = rng.integers(0, len(ids) - T, size=B)
        rows = np.asarray(ids, np.int32)[starts[:, None] + offsets]        # (B, T + 1)
        yield rows[:, :-1].copy(), rows[:, 1:].copy()


def sliding_windows(ids, B, T, stride):
    """Yield (inputs, targets) that score each token of ids[1:] exactly once, in order.

    Windows start `stride` apart; a target that the window before has scored already is −100. So
    every scored token but the first T has at least T − stride tokens before it.
    """
    check_length(ids, T)
    if not 1 <= stride <= T:
        raise ValueError(f"stride must be 1 … {T}, not {stride}")
    starts = list(range(0, len(ids) - T, stride))
    if starts[-1] + T < len(ids) - 1:
        starts.append(len(ids) - 1 - T)
    scored = 0                                          # targets ids[1 … scored] are done
    rows = []
    for start in starts:
        targets = np.array(ids[start + 1:start + T + 1], np.int32)
        targets[:max(scored - start, 0)] = -100
        scored = start + T
        rows.append((ids[start:start + T], targets))
        if len(rows) == B or start == starts[-1]:
            yield np.array([r[0] for r in rows], np.int32), np.array([r[1] for r in rows])
            rows = []


def check_length(ids, T):
    if len(ids) <= T:
        raise ValueError(f"a text of {len(ids)} tokens has no window of {T} and a next token: "
                         "use a longer text or a smaller T")
