"""Day 26 · A trie of pieces in flat arrays: which pieces begin at this byte?

A trie is a tree with a byte on each edge; to read a text along it is to meet every piece that
starts there, from the shortest to the longest. All edges live in one hash table whose entry holds
(node, byte, next node) in 64 bits, so a step is one look into memory. Node 0 is the root; there
may be 2^23 nodes.
Leaves out: deletion; where pieces are pruned, a new trie is built, which is quick.
"""

import numpy as np
from numba import njit

MOST_NODES = 1 << 23     # a node and a byte must fit into 31 bits


@njit(cache=True)
def build(store, spans):
    """The trie of the pieces store[a:b] for (a, b) in spans (P, 2): the pair the kernels take.

    table (2^k,) int64 holds the edges, at most half of it full; piece_of (nodes,) int32 the piece
    that ends at each node, or −1. An empty span is no piece. ValueError for too many nodes.
    """
    table, piece_of, nodes = np.zeros(512, np.int64), np.full(257, -1, np.int32), 1
    for p in range(len(spans)):
        node = 0
        for i in range(spans[p, 0], spans[p, 1]):
            at = find(table, node, store[i])
            if not table[at]:
                if nodes == MOST_NODES:
                    raise ValueError("a trie holds 2^23 nodes; ask for fewer or shorter pieces")
                if nodes == len(piece_of) - 1:
                    table, piece_of = twice(table, piece_of)
                    at = find(table, node, store[i])
                table[at] = (np.int64(node) << 8 | store[i]) << 32 | nodes
                nodes += 1
            node = table[at] & 0xFFFFFFFF
        if node:
            piece_of[node] = p
    return table, piece_of[:nodes].copy()


@njit
def twice(table, piece_of):
    """The same trie with room for twice as many nodes."""
    wider = np.zeros(2 * len(table), np.int64)
    for edge in table:
        if edge:
            wider[find(wider, edge >> 40, (edge >> 32) & 0xFF)] = edge
    longer = np.full(2 * len(piece_of) - 1, -1, np.int32)
    longer[:len(piece_of)] = piece_of
    return wider, longer


@njit
def find(table, node, byte):
    """Where the edge from `node` along `byte` is in the table, or the empty place for it."""
    mask, key = len(table) - 1, np.int64(node) << 8 | byte
    h = key * -7046029254386353131                     # 2^64 / golden ratio, as day 25
    at = (h ^ (h >> 32)) & mask
    while table[at] and table[at] >> 32 != key:
        at = (at + 1) & mask
    return at


@njit
def matches(data, i, end, trie, unknown):
    """Generate (piece, where it ends) for each piece that starts at byte i of data[:end].

    Where the character at i is no piece by itself, it comes last, as the piece `unknown`.
    """
    table, piece_of = trie
    character, single = i + width(data[i]), False
    node, j = 0, i
    while j < end:
        node = table[find(table, node, data[j])] & 0xFFFFFFFF
        if not node:
            break
        j += 1
        if piece_of[node] >= 0:
            single = single or j == character
            yield np.int64(piece_of[node]), j
    if not single:
        yield np.int64(unknown), character


@njit
def width(byte):
    """How many bytes the character has that starts with this one, in UTF-8."""
    return 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


def trie_of(pieces):
    """The trie of a list of bytes, numbered as they stand; b"" is no piece."""
    ends = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    store = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    return build(store, np.stack([ends[:-1], ends[1:]], axis=1))
