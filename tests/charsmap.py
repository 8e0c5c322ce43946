"""Day 26 · Tables of characters as SentencePiece writes them, for the tests: a double array.

Only what the tests need: no sharing of equal branches, and offsets of up to 21 bits.
"""

import struct
import unicodedata


def charsmap(rules):
    """{text: what it becomes} -> the bytes of a table."""
    strings, root = b"", {}
    for key, value in rules.items():
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = len(strings)
        strings += value.encode() + b"\0"
    units, taken, offsets, tried, waiting = {0: 0}, {0}, set(), {}, [(root, 0)]
    while waiting:
        node, at = waiting.pop()
        first = next(iter(node))                           # what failed for it once always fails
        place = tried.get(first, 1)
        while (place in taken or place ^ first in offsets
               or any(place ^ first ^ label in taken for label in node)):
            place += 1
            if len(node) == 1:
                tried[first] = place
        offset = place ^ first
        offsets.add(offset)
        taken.update(offset ^ label for label in node)
        units[at] |= (offset ^ at) << 10 | (0 in node) << 8
        for label, child in node.items():
            units[offset ^ label] = label if label else 1 << 31 | child
            if label:
                waiting.append((child, offset ^ label))
    size = (max(units) // 256 + 1) * 256
    trie = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(trie)) + trie + strings


def nfkc_rules():
    """What SentencePiece's nmt_nfkc does, in the main: NFKC, and white space becomes a space."""
    rules = {}
    for code in (*range(0xAC00), *range(0xF900, 0x10000)):
        c = chr(code)
        if unicodedata.category(c) not in ("Cs", "Cn"):
            parts = unicodedata.normalize("NFD", c)
            composed = unicodedata.normalize("NFKC", c)
            if composed != c:
                rules[c] = composed
            if parts != c:
                rules[parts] = composed
    blanks = ("\t", "\n", "\r", "\u200b", "\u200e", "\u2028", "\ufeff", "\ufffd", "\u1680")
    return rules | dict.fromkeys(blanks, " ") | dict.fromkeys(map(chr, (*range(1, 9), 11, 127)), "")
