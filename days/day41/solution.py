"""Day 41 · Solutions."""

import numpy as np

from llm.generate.automaton import Automaton


def no_repeat(logits, so_far, n):
    """Look for earlier places of the last n − 1 ids; what followed them is forbidden."""
    z = np.array(logits)
    tail = list(so_far[len(so_far) - n + 1:]) if n > 1 else []
    for i in range(len(so_far) - n + 1):
        if list(so_far[i:i + n - 1]) == tail:
            z[so_far[i + n - 1]] = -np.inf
    return z


def minimise(automaton):
    """Moore: split groups of states until all members of a group agree on where each byte leads."""
    group = automaton.accepts.astype(np.int64)                             # (S,)
    while True:
        ahead = np.where(automaton.table < 0, -1, group[automaton.table])  # (S, 256), by group
        _, finer = np.unique(np.column_stack([group, ahead]), axis=0, return_inverse=True)
        if finer.max() == group.max() and len(set(finer)) == len(set(group)):
            break
        group = finer.ravel()
    order = list(dict.fromkeys(group.tolist()))                            # the start's group first
    names = {g: i for i, g in enumerate(order)}
    first = [int(np.argmax(group == g)) for g in order]
    table = [[names[group[t]] if t >= 0 else -1 for t in automaton.table[s]] for s in first]
    return Automaton(np.array(table, dtype=np.int32), automaton.accepts[first])
