"""Day 26 · SentencePiece's table of characters to be replaced, as T5 and XLM-R have it.

Four bytes of length, a trie, and strings that end in a zero byte. The trie is a double array: the
node at p has its child for byte c at p ^ c, if the unit there is labelled c; a unit says how far
from it its own children are, and whether a key ends there. A table may come from anywhere, so it
is read as a whole, and one with a loop, or a step out of the array, is refused.
Leaves out: SentencePiece's own way to apply it, the longest key first. Hugging Face's tokenizers
takes clusters instead, which are a character and its marks, and we give its ids. Emoji that join
to others are no cluster here; they are too long for a table, but for © and ®.
Sources: darts-clone, darts.h; spm_precompiled, lib.rs; tokenizers, normalizers/precompiled.rs.
"""

import base64
import functools
import unicodedata

import numpy as np

from llm.tokens.chars import code_points

MOST_NODES = 1 << 18
LONGEST_KEY = 64         # bytes; in SentencePiece's own tables 12
LONGEST = 1000           # characters of one replacement
CLUSTER = 6              # bytes: a cluster of so many is taken apart
CHUNK = 4096             # nodes looked at together
PLAIN, CONTROL, EXTEND, PREPEND = range(4)
NO_MARKS = (0x102B, 0x102C, 0x1038, *range(0x1062, 0x1065), *range(0x1067, 0x106E), 0x1083,
            *range(0x1087, 0x108D), 0x108F, *range(0x109A, 0x109D), 0x1A61, 0x1A63, 0x1A64, 0xAA7B,
            0xAA7D, 0x11720, 0x11721)            # marks that take room of their own
MORE_MARKS = (0x200C, 0x200D, 0x0E33, 0x0EB3, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400),
              *range(0xE0020, 0xE0080))          # and what joins though it is no mark
BEFORE = (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2,
          0x111C3, 0x1193F, 0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46)


@functools.cache
def kinds():
    """(0x110000,) uint8: what joins what into clusters. Source: Unicode Annex 29, table 2."""
    table = np.zeros(0x110000, dtype=np.uint8)
    names = {"Cc": CONTROL, "Cf": CONTROL, "Zl": CONTROL, "Zp": CONTROL, "Mn": EXTEND,
             "Me": EXTEND, "Mc": EXTEND}
    for first, last in ((0, 0x40000), (0xE0000, 0xE1000)):
        table[first:last] = [names.get(unicodedata.category(chr(c)), PLAIN)
                             for c in range(first, last)]
    table[list(NO_MARKS)], table[list(MORE_MARKS)], table[list(BEFORE)] = PLAIN, EXTEND, PREPEND
    return table


def read_charsmap(blob):
    """bytes -> {text: what it becomes}, without texts of 6 and more bytes, which are never used.

    ValueError where the table is damaged or hostile.
    """
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 8 or size % 4 or not 4 <= size <= len(blob) - 4:
        raise ValueError("the charsmap is cut short: its trie has a length that it cannot have")
    units = np.frombuffer(blob, "<u4", size // 4, 4).astype(np.int64)
    root = children(units[:1], np.zeros(1, np.int64))
    check_trie(units, root)
    table, keys, nodes = {}, [b""], root
    for _ in range(CLUSTER - 1):
        which, label, at = edges(units, nodes)
        nodes = children(units[at], at)
        keys = [keys[w] + bytes([c]) for w, c in zip(which.tolist(), label.tolist())]
        for k in np.flatnonzero(units[at] >> 8 & 1).tolist():
            value = int(units[nodes[k]]) & (1 << 31) - 1
            table[keys[k].decode()] = string_at(blob, 4 + size + value)
    return table


def check_trie(units, nodes):
    """Raise ValueError if there is a way in the trie that leaves the array, or has no end.

    Branches may be shared, so there are more ways than nodes; each node is looked at once a level.
    """
    for _ in range(LONGEST_KEY):
        _, _, at = edges(units, nodes)
        nodes = np.unique(children(units[at], at))
        if not len(nodes):
            return
    raise ValueError(f"the charsmap's trie has keys of more than {LONGEST_KEY} bytes, or a loop")


def children(units, at):
    """Where the children of the nodes whose units (N,) are at places (N,) begin."""
    return at ^ (units >> 10) << ((units & 1 << 9) >> 6)


def edges(units, nodes):
    """(which node, byte, place of the child's unit) of all edges from nodes (N,): (E,) each."""
    found, labels = [np.zeros((3, 0), np.int64)], np.arange(1, 256)
    if len(nodes) and (nodes | 255).max() >= len(units):
        raise ValueError("the charsmap's trie steps out of its array")
    if len(nodes) > MOST_NODES:
        raise ValueError(f"the charsmap's trie has more than {MOST_NODES:,} nodes of one depth")
    for k in range(0, len(nodes), CHUNK):
        at = nodes[k:k + CHUNK, None] ^ labels
        which, label = np.nonzero(units[at] & (1 << 31 | 255) == labels)
        found.append(np.stack([which + k, labels[label], at[which, label]]))
    return np.concatenate(found, axis=1)


def string_at(blob, i):
    """The string that starts at byte i. ValueError if there is none, or none of a sane length."""
    end = blob.find(b"\0", i, i + 4 * LONGEST)
    if end < 0:
        raise ValueError(f"the charsmap has no string that starts at byte {i} and soon ends")
    return blob[i:end].decode()


def precompiled(step):
    """The step Precompiled of a tokenizer.json: (str -> str, growth)."""
    table = read_charsmap(base64.b64decode(step["precompiled_charsmap"], validate=True))
    single = {ord(key): value for key, value in table.items() if len(key) == 1}
    growth = max([1, *map(len, table.values())])
    return functools.partial(replaced, table=table, single=single), growth


def replaced(text, table, single):
    """The text with its clusters, or else its characters, replaced. O(T).

    A cluster of fewer than 6 bytes becomes what the shortest key at its beginning becomes, and the
    rest of it is lost. This is what Hugging Face's tokenizers does.
    """
    out, last = [], 0
    for a, b in clusters(text) if not text.isascii() or "\r\n" in text else ():
        key = next((text[a:k] for k in range(a + 1, b + 1) if text[a:k] in table), None)
        if key is not None:
            out += [text[last:a].translate(single), table[key]]
            last = b
    return "".join([*out, text[last:].translate(single)])


def clusters(text):
    """(first, last + 1) of each cluster of two or more characters and fewer than 6 bytes."""
    codes = code_points(text)                                        # (T,)
    kind = kinds()[codes]
    before, after = kind[:-1], kind[1:]
    glued = (((after == EXTEND) & (before != CONTROL)) | ((before == PREPEND) & (after != CONTROL))
             | ((codes[:-1] == 13) & (codes[1:] == 10)))
    starts = np.flatnonzero(np.append(True, ~glued))
    ends = np.append(starts[1:], len(codes))
    width = 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)
    read = np.append(0, np.cumsum(width))
    small = (ends - starts > 1) & (read[ends] - read[starts] < CLUSTER)
    return zip(starts[small].tolist(), ends[small].tolist())
