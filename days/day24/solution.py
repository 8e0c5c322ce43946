"""Day 24 · Solutions of the exercises."""

import numpy as np

from llm.tokens.bpe import BPE


def merge_array(ids, pair, new):
    """Matches of a pair of different ids cannot overlap; of a run of equal ones, every second."""
    ids = np.array(ids)
    hit = (ids[:-1] == pair[0]) & (ids[1:] == pair[1])
    if pair[0] == pair[1]:
        place = np.arange(len(hit))
        breaks = np.where(hit, -1, place)                    # the last miss up to here
        hit &= (place - np.maximum.accumulate(breaks)) % 2 == 1 if len(hit) else hit
    ids[:-1][hit] = new
    keep = np.ones(len(ids), dtype=bool)
    keep[1:][hit] = False
    return ids[keep]


def merges_of(pieces):
    """With the merges before it, each piece falls into exactly the two parts it was made of."""
    merges = []
    for piece in pieces[256:]:
        known = BPE(merges)
        ids = list(piece)
        while len(ids) > 2:
            pair = min(zip(ids, ids[1:]), key=lambda p: known.rank.get(p, len(merges)))
            at = list(zip(ids, ids[1:])).index(pair)
            ids[at:at + 2] = [256 + known.rank[pair]]
        merges.append(tuple(ids))
    return merges
