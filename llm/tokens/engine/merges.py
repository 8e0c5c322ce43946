"""Day 25 · The two merge loops: learning merges from counted words, and applying them to words.

Words are linked lists: a merge joins two positions and touches only their neighbours. Learning
keeps, for every pair, its count and the places where it occurs, so a merge costs as many steps as
it has occurrences; day 24 looked at the whole text. Applying keeps the pairs of one word in a heap
by rank: O(n log n) for n bytes, so a word of a million letters is no trap.
Leaves out: threads (see FastBPE.encode_batch) and any ordering but day 24's.
"""

import numpy as np
from numba import njit

from llm.tokens.engine.classes import code_at
from llm.tokens.engine.heap import find, packed, pop, push, twice


@njit
def link(starts, first, last, after, before, owner):
    """Chain the positions of words first … last − 1; −1 marks a word's two ends."""
    for w in range(first, last):
        for i in range(starts[w], starts[w + 1]):
            after[i] = i + 1 if i + 1 < starts[w + 1] else -1
            before[i] = i - 1 if i > starts[w] else -1
            owner[i] = w


@njit
def note(slots, keys, counts, ends, places, used, key, place, weight):
    """Count `weight` more of pair `key`, seen at `place`; places are kept in order of arrival.

    ends (P, 2): first and last entry of each pair's chain; places (E, 2): position, next entry.
    used: how many pairs and entries there are.
    """
    at = find(slots, keys, key)
    slot = np.int64(slots[at]) - 1
    entry = used[1]
    used[1] += 1
    places[entry, 0], places[entry, 1] = place, -1
    if slot < 0:
        slot = used[0]
        used[0] += 1
        slots[at] = slot + 1
        keys[slot], counts[slot] = key, weight
        ends[slot, 0] = entry
    else:
        counts[slot] += weight
        places[ends[slot, 1], 1] = entry
    ends[slot, 1] = entry


@njit(cache=True, nogil=True)
def learn(symbols, starts, weights, base, wanted, min_count):
    """Learn up to `wanted` merges; merge i makes id base + i. Returns (merges, 2) int32.

    symbols (N,) int32: the ids of all words in one row, changed in place; word w is
    starts[w]:starts[w + 1] and occurs weights[w] times.
    Source: day 24's loop, with the incremental counts of Sennrich's subword-nmt (2016).
    """
    n = len(symbols)
    after, before = np.empty(n, np.int32), np.empty(n, np.int32)
    owner = np.empty(n, np.int32)
    link(starts, 0, len(weights), after, before, owner)
    most = 3 * n + 1        # more places are never noted, see the note; untouched memory is free
    slots, used = np.zeros(1 << 14, np.int32), np.zeros(2, np.int64)
    keys, counts = np.empty(most, np.int64), np.empty(most, np.int64)
    ends, places = np.empty((most, 2), np.int32), np.empty((most, 2), np.int32)
    heap, merges = np.empty((most, 2), np.int64), np.empty((wanted, 2), np.int32)
    made, waiting, seen = 0, np.int64(0), 0           # for a plain 0 push is compiled once more
    for i in range(n):
        if 4 * used[0] >= len(slots):
            slots = twice(slots, keys, used[0])
        if after[i] >= 0:
            note(slots, keys, counts, ends, places, used, packed(symbols[i], symbols[i + 1]),
                 np.int32(i), weights[owner[i]])      # as wide as an entry of places
    while made < wanted:
        for slot in range(seen, used[0]):             # pairs that are new since the last merge
            if counts[slot] >= min_count:
                waiting = push(heap, waiting, -counts[slot], keys[slot])
        seen = used[0]
        slot, waiting = most_frequent(heap, waiting, slots, keys, counts, min_count)
        if slot < 0:
            break
        key = keys[slot]
        a, b, new = key >> 32, key & 0xFFFFFFFF, base + made
        merges[made, 0], merges[made, 1] = a, b
        made += 1
        entry = ends[slot, 0]
        while entry >= 0:
            i, entry = places[entry, 0], places[entry, 1]
            j = after[i]
            if symbols[i] != a or j < 0 or symbols[j] != b:
                continue                              # merged away since it was noted
            if 4 * used[0] + 8 >= len(slots):
                slots = twice(slots, keys, used[0])
            p, q, weight = before[i], after[j], weights[owner[i]]
            if p >= 0:
                counts[slots[find(slots, keys, packed(symbols[p], a))] - 1] -= weight
            if q >= 0:
                counts[slots[find(slots, keys, packed(b, symbols[q]))] - 1] -= weight
            symbols[i], symbols[j], after[i] = new, -1, q
            if p >= 0:
                note(slots, keys, counts, ends, places, used, packed(symbols[p], new), p, weight)
            if q >= 0:
                before[q] = i
                note(slots, keys, counts, ends, places, used, packed(new, symbols[q]), i, weight)
        counts[slot] = 0
    return merges[:made]


@njit
def most_frequent(heap, waiting, slots, keys, counts, min_count):
    """(slot of the pair with the highest count, entries left in the heap), or slot −1.

    An old pair's count only falls, so an entry may promise too much and never too little.
    """
    while waiting:
        waiting, count, key = pop(heap, waiting)
        slot = slots[find(slots, keys, key)] - 1
        if counts[slot] == -count:
            return slot, waiting
        if counts[slot] >= min_count:                 # it has become rarer since it was pushed
            waiting = push(heap, waiting, -counts[slot], key)
    return -1, waiting


@njit
def symbols(store, begin, end, base, chars, ids):
    """Fill ids with the first symbols of the word store[begin:end]; returns how many.

    chars (C,) int32: the id of each code point that is a piece, or −1. Any other character is its
    bytes, whose ids are base (256,) int32. A byte-level vocabulary has no chars.
    """
    n, i = 0, begin
    while i < end:
        if len(chars) and store[i] >= 0xC0:
            code, j = code_at(store, i)
            if code < len(chars) and chars[code] >= 0:
                ids[n] = chars[code]
                n, i = n + 1, j
                continue
        ids[n] = base[store[i]]
        n, i = n + 1, i + 1
    return n


@njit(cache=True, nogil=True)
def apply(store, starts, first, last, base, chars, slots, keys, made, tokens, token_starts):
    """Merge the words first … last − 1 of `store`; the ids of word w go to
    tokens[token_starts[w]:token_starts[w + 1]].

    base, chars: see `symbols`; pair keys[r] (see `find`) has rank r, makes made[r].
    """
    longest = 0
    for w in range(first, last):
        longest = max(longest, starts[w + 1] - starts[w])
    after, before = np.empty(longest, np.int32), np.empty(longest, np.int32)
    ids, heap = np.empty(longest, np.int32), np.empty((3 * longest, 2), np.int64)
    for w in range(first, last):
        n, waiting = symbols(store, starts[w], starts[w + 1], base, chars, ids), 0
        for i in range(n):
            after[i], before[i] = i + 1, i - 1
        after[n - 1] = -1
        for i in range(n - 1):
            rank = slots[find(slots, keys, packed(ids[i], ids[i + 1]))] - 1
            if rank >= 0:
                waiting = push(heap, waiting, rank, i)
        while waiting:
            waiting, rank, i = pop(heap, waiting)
            j = after[i]
            if ids[i] < 0 or j < 0 or packed(ids[i], ids[j]) != keys[rank]:
                continue                              # one of the two is merged already
            q = after[j]
            ids[i], ids[j], after[i] = made[rank], -1, q
            if q >= 0:
                before[q] = i
                rank = slots[find(slots, keys, packed(ids[i], ids[q]))] - 1
                if rank >= 0:
                    waiting = push(heap, waiting, rank, i)
            if before[i] >= 0:
                rank = slots[find(slots, keys, packed(ids[before[i]], ids[i]))] - 1
                if rank >= 0:
                    waiting = push(heap, waiting, rank, before[i])
        out = token_starts[w]
        for i in range(n):
            if ids[i] >= 0:
                tokens[out] = ids[i]
                out += 1
        token_starts[w + 1] = out


@njit(cache=True, nogil=True)
def gather(numbers, tokens, token_starts, ids, n, ends):
    """Append the tokens of each word to ids from n on; ends[m]: tokens up to word m's end."""
    for m in range(len(numbers)):
        w = numbers[m]
        for t in range(token_starts[w], token_starts[w + 1]):
            ids[n] = tokens[t]
            n += 1
        ends[m] = n
    return n
